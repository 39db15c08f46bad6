"""The queue: which deliveries are due, who has leased them, and what operators do with them.

The database is the queue. Any number of processes may claim at the same time; a lease that ran out makes its
deliveries pending again.
"""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import Count, Exists, Min, OuterRef, Q
from django.utils import timezone

from anaphora.activity import Action, record_each
from anaphora.deliveries import irregularities
from anaphora.deliveries.irregularities import Undelivered
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, State
from anaphora.reports.content_types import extension
from anaphora.reports.models import describe, local_location, local_name

# Claiming.


class Claimed(NamedTuple):
    """A leased delivery with the facts of its report that an upload needs: what one query returns, not three models."""

    pk: int
    interface_id: int
    report_id: UUID
    attempts: int
    due_at: datetime
    diagnosis: str
    """The diagnosis of an earlier attempt."""
    detail: str
    dashboard: str
    """The slug."""
    title: str
    """The dashboard's."""
    rendered_at: datetime
    ingested_at: datetime
    filename: str
    content_type: str
    size: int
    sha256: str
    md5: str
    file: str
    """The name of the local copy, empty if housekeeping has removed it."""

    @property
    def local_path(self) -> Path:
        """The path of the local copy, whether it exists or not."""
        name = self.file or local_name(self.dashboard, self.rendered_at, self.report_id, self.suffix)
        return Path(local_location(), name)

    @property
    def suffix(self) -> str:
        """The file name extension that fits the content."""
        return extension(self.content_type, self.filename)

    @property
    def description(self) -> str:
        """The report in words, as on pages."""
        return describe(self.dashboard, self.rendered_at)


_COLUMNS = [
    "pk", "interface_id", "report_id", "attempts", "due_at", "diagnosis", "detail", "report__dashboard__slug",
    "report__dashboard__title", "report__rendered_at", "report__ingested_at", "report__filename",
    "report__content_type", "report__size", "report__sha256", "report__md5", "report__file",
]  # fmt: skip


def claim(interface_id: int, lease: UUID, limit: int) -> list[Claimed]:
    """Lease up to `limit` deliveries that are due or whose lease ran out, each to one claimer only.

    Fresh reports come first, then the longest due.
    """
    now = timezone.now()
    if database.vendor == "postgresql":
        values: dict[str, Any] = {
            "interface": interface_id,
            "now": now,
            "limit": limit,
            "lease": lease,
            "until": _lease_end(now),
        }
        with database.cursor() as cursor:
            cursor.execute(_CLAIM, values)
            return [Claimed._make(row) for row in cursor.fetchall()]
    with transaction.atomic():  # SQLite: no other process can write until it ends
        of_interface = Delivery.objects.filter(interface=interface_id)
        of_interface.filter(state=State.SENDING, leased_until__lt=now).update(
            state=State.PENDING, lease=None, leased_until=None
        )
        due = of_interface.filter(state=State.PENDING, due_at__lte=now).order_by("priority", "due_at")
        claimed = [Claimed._make(row) for row in due.values_list(*_COLUMNS)[:limit]]
        Delivery.objects.filter(pk__in=[each.pk for each in claimed]).update(
            state=State.SENDING, lease=lease, leased_until=_lease_end(now)
        )
    return claimed


# One statement needs no transaction around it. MATERIALIZED keeps the planner from running a subquery twice. Each of
# them reads one partial index.
_CLAIM = """
WITH abandoned AS MATERIALIZED (
    SELECT id FROM deliveries_delivery
    WHERE interface_id = %(interface)s AND state = 'sending' AND leased_until < %(now)s
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT id FROM deliveries_delivery
    WHERE interface_id = %(interface)s AND state = 'pending' AND due_at <= %(now)s
    ORDER BY priority, due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE deliveries_delivery AS delivery SET state = 'sending', lease = %(lease)s, leased_until = %(until)s
    FROM (SELECT id FROM abandoned UNION ALL SELECT id FROM due LIMIT %(limit)s) AS chosen
    WHERE delivery.id = chosen.id RETURNING delivery.*
)
SELECT leased.id, leased.interface_id, leased.report_id, leased.attempts, leased.due_at, leased.diagnosis,
    leased.detail, dashboard.slug, dashboard.title, report.rendered_at, report.ingested_at, report.filename,
    report.content_type, report.size, report.sha256, report.md5, report.file
FROM leased JOIN reports_report AS report ON report.id = leased.report_id
    JOIN reports_dashboard AS dashboard ON dashboard.id = report.dashboard_id
ORDER BY leased.priority, leased.due_at
"""


def renew(lease: UUID) -> None:
    """Extend the lease of what is being sent."""
    leased = Delivery.objects.filter(lease=lease, state=State.SENDING)
    leased.update(leased_until=_lease_end(timezone.now()))


def _lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)


# Waking workers up.


def interfaces_with_due_work() -> list[int]:
    """Return the ids of the interfaces that `deliver_due()` would find something to do for."""
    now = timezone.now()
    of_interface = Delivery.objects.filter(interface=OuterRef("pk"))
    due = Exists(of_interface.filter(state=State.PENDING, due_at__lte=now))
    abandoned = Exists(of_interface.filter(state=State.SENDING, leased_until__lt=now))
    ready = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
    return list(Interface.objects.filter(due | abandoned, ready, enabled=True).values_list("pk", flat=True))


def record_wakeup_sent(interface_id: int) -> bool:
    """Record that a message to a worker is about to be sent; return False if one is on its way already.

    A message that no worker received within a sweep's time counts as lost.
    """
    now = timezone.now()
    lost = now - timedelta(seconds=settings.DELIVERY_SWEEP_SECONDS)
    adapt = database.ops.adapt_datetimefield_value
    with database.cursor() as cursor:
        cursor.execute(_RECORD_WAKEUP, [adapt(now), interface_id, adapt(lost)])
        return bool(cursor.rowcount)


# Plain SQL, because each new report asks this, and Django takes longer to put it together than the database to answer.
_RECORD_WAKEUP = """
UPDATE deliveries_interface SET wakeup_sent_at = %s
WHERE id = %s AND (wakeup_sent_at IS NULL OR wakeup_sent_at < %s)
"""


def record_wakeup_received(interface_id: int) -> None:
    """Record that the message has arrived. Deliveries that become due from now on need another message."""
    Interface.objects.filter(pk=interface_id, wakeup_sent_at__isnull=False).update(wakeup_sent_at=None)


def resume(interface_id: int) -> None:
    """End an interface's pause, because its settings changed, or a test or a delivery succeeded."""
    Interface.objects.filter(pk=interface_id, failures__gt=0).update(
        failures=0, paused_until=None, diagnosis="", detail=""
    )


def reset_future_timestamps() -> None:
    """Reset timestamps left in the future by a clock change.

    Otherwise what was claimed or postponed before would wait for as long as the clock was ahead.
    """
    now = timezone.now()
    last_retry = now + timedelta(seconds=settings.DELIVERY_RETRY_SECONDS + 60)
    last_lease = now + timedelta(seconds=settings.DELIVERY_LEASE_SECONDS + 60)
    Delivery.objects.filter(state=State.PENDING, due_at__gt=last_retry).update(due_at=now)
    Delivery.objects.filter(state=State.SENDING, leased_until__gt=last_lease).update(leased_until=now)
    Interface.objects.filter(paused_until__gt=last_retry).update(paused_until=now)
    Interface.objects.filter(wakeup_sent_at__gt=now + timedelta(seconds=60)).update(wakeup_sent_at=None)
    # Scheduled runs recorded for a time in the future count as made until now.
    ArchivePolicy.objects.filter(ran_at__gt=now + timedelta(seconds=60)).update(ran_at=now)


# Actions of operators, and counts for pages.


def retry(chosen: list[Delivery]) -> int:
    """Make failed deliveries pending and due now; return how many. Others are left as they are."""
    with transaction.atomic():
        retried = _locked(chosen, [State.FAILED])
        Delivery.objects.filter(pk__in=retried).update(
            state=State.PENDING, due_at=timezone.now(), diagnosis="", detail=""
        )
        record_each(Action.RETRIED, retried.values())
    return len(retried)


CANCELLABLE = [State.PENDING, State.FAILED]
"""The states of deliveries that are neither delivered nor being sent."""


def cancel(chosen: list[Delivery]) -> list[Delivery]:
    """Cancel undelivered deliveries that nobody is sending; return those. Others are left as they are.

    The rows stay. Only a backfill makes them pending again.
    """
    with transaction.atomic():
        cancelled = _locked(chosen, CANCELLABLE)
        Delivery.objects.filter(pk__in=cancelled).update(state=State.CANCELLED)
        irregularities.record_deliveries(
            irregularities.CANCELLED,
            [
                Undelivered(
                    row.interface_id, row.report_id, row.report.dashboard.slug, row.report.sha256, row.diagnosis
                )
                for row in cancelled.values()
            ],
        )
        record_each(Action.CANCELLED, cancelled.values())
    return [each for each in chosen if each.pk in cancelled]


def _locked(chosen: list[Delivery], states: list[State]) -> dict[int, Delivery]:
    """Return those of the chosen deliveries that are in one of the states, and keep others from changing them."""
    rows = Delivery.objects.filter(pk__in=[each.pk for each in chosen], state__in=states)
    rows = rows.select_related("report__dashboard", "interface").order_by()
    if database.features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    return {row.pk: row for row in rows}


def has_receipts(interface_id: int) -> bool:
    """Return whether anything was delivered to an interface."""
    return Delivery.objects.filter(interface=interface_id, state=State.DELIVERED).exists()


MOST_TRIED = 200


def oldest_pending(interfaces: Collection[int]) -> dict[int, datetime]:
    """Return, for the interfaces with pending deliveries, since when the oldest has been waiting. Runs two queries.

    A delivery waits from its creation on, so one created by a backfill has not waited since its report came in. After
    an attempt that failed for the report's own sake, `due_at` is later at each retry, so such a delivery counts from
    the time its report came in; at most MOST_TRIED of these are read.
    """
    rows = Delivery.objects.filter(interface__in=interfaces, state=State.PENDING).order_by()
    oldest = dict(rows.values_list("interface").annotate(Min("due_at")))
    tried = rows.filter(attempts__gt=0).values_list("interface", "report__ingested_at")
    for interface, ingested_at in tried[:MOST_TRIED]:
        oldest[interface] = min(oldest[interface], ingested_at)
    return oldest


def count_by_state(interfaces: Collection[int], *, recent: bool = True) -> dict[int, Counter[State]]:
    """Count, for each interface, the deliveries that are pending (including those being sent) and that failed.

    With `recent`, also count those delivered in the last 24 hours.
    """
    counts: dict[int, Counter[State]] = {interface: Counter() for interface in interfaces}
    open_rows = Delivery.objects.filter(
        interface__in=interfaces, state__in=[State.PENDING, State.SENDING, State.FAILED]
    )
    delivered = Delivery.objects.filter(
        interface__in=interfaces, state=State.DELIVERED, delivered_at__gte=timezone.now() - timedelta(hours=24)
    )
    for rows in (open_rows, delivered) if recent else (open_rows,):
        for interface, state, number in rows.order_by().values_list("interface", "state").annotate(Count("pk")):
            counts[interface][State.PENDING if state == State.SENDING else State(state)] += number
    return counts
