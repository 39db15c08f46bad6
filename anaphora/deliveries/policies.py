"""Which interfaces want a report, and the creation of missing deliveries. Creating twice changes nothing.

This module alone implements the rule: an enabled policy wants the reports of its dashboards, or of all dashboards if it
has none. A policy without a schedule wants them as soon as they are rendered.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection as database
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.utils import timezone

from anaphora.bulk_rows import insert_rows
from anaphora.deliveries import irregularities, schedules
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, Priority, State, remember_created
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.timestamps import iso_instant

MISSED = timedelta(minutes=15)
"""A scheduled run that starts later than this after its time counts as missed."""

BATCH = 1000
"""Deliveries created by one statement."""


def interfaces_of(reports: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return, for each report, the interfaces that want it at once or on schedule. Two queries."""
    dashboards = dict(Report.objects.filter(pk__in=reports).values_list("pk", "dashboard_id"))
    wanted = _interfaces_by_dashboard(set(dashboards.values()))
    return defaultdict(set, {report: set(wanted[dashboard]) for report, dashboard in dashboards.items()})


def create_for_new(*reports: Report) -> set[int]:
    """Create the pending deliveries of new reports that policies want at once; return their interfaces' ids.

    Runs in the caller's transaction.
    """
    wanted = _interfaces_by_dashboard({report.dashboard_id for report in reports}, scheduled=False)
    now, rows = timezone.now(), []
    for report in reports:
        names = wanted[report.dashboard_id]
        remember_created(
            report, [Delivery(report=report, interface=_named(pk, names[pk]), due_at=now) for pk in sorted(names)]
        )
        rows += [{"report": report.pk, "interface": pk} for pk in sorted(names)]
    insert_rows(Delivery, rows, due_at=now)
    return set().union(*wanted.values())


def _named(pk: int, name: str) -> Interface:
    """Return an interface with only its id and name loaded; the other fields are deferred."""
    return Interface.from_db(None, ["id", "name"], [pk, name])


def interfaces_wanting(dashboard: Dashboard) -> list[Interface]:
    """Return the interfaces that want the reports of a dashboard, at once or on schedule."""
    return list(Interface.objects.filter(pk__in=_interfaces_by_dashboard({dashboard.pk})[dashboard.pk]))


# Plain SQL, because every new report asks this, and Django takes longer to put it together than the database to execute
# it.
_WANTED = """
SELECT policy.interface_id, interface.name, chosen.dashboard_id FROM deliveries_archivepolicy AS policy
    JOIN deliveries_interface AS interface ON interface.id = policy.interface_id
    LEFT JOIN deliveries_archivepolicy_dashboards AS chosen ON chosen.archivepolicy_id = policy.id
WHERE policy.enabled AND (policy.schedule_id IS NULL OR %s) AND (chosen.id IS NULL OR chosen.dashboard_id IN ({}))
"""


def _interfaces_by_dashboard(dashboards: Collection[int], *, scheduled: bool = True) -> dict[int, dict[int, str]]:
    """Return, for each dashboard, the names of the interfaces by id; without `scheduled`, of policies at once only."""
    if not dashboards:
        return {}
    with database.cursor() as cursor:
        cursor.execute(_WANTED.format(", ".join(["%s"] * len(dashboards))), [scheduled, *dashboards])
        rows = cursor.fetchall()
    return {
        dashboard: {interface: name for interface, name, chosen in rows if chosen in {None, dashboard}}
        for dashboard in dashboards
    }


def covered(policy: ArchivePolicy) -> QuerySet[Report]:
    """Return the reports that the policy wants, enabled or not."""
    dashboards = list(policy.dashboards.values_list("pk", flat=True))
    return Report.objects.filter(dashboard__in=dashboards) if dashboards else Report.objects.all()


@dataclass(frozen=True)
class Coverage:
    """The progress of a policy: the number of reports it wants, by the state of their deliveries."""

    missing: int
    missing_bytes: int
    """Reports that the policy wants and that have no delivery to its interface yet."""
    waiting: int
    delivered: int
    failed: int
    cancelled: int
    per_minute: float
    """Deliveries to the interface in the last five minutes."""

    @property
    def total(self) -> int:
        """All reports that the policy wants."""
        return self.missing + self.waiting + self.delivered + self.failed + self.cancelled

    @property
    def backfilled(self) -> int:
        """How many deliveries a backfill would create or make pending again."""
        return self.missing + self.cancelled

    @property
    def remaining(self) -> timedelta | None:
        """How long the rest takes at the present rate; None if nothing was delivered lately."""
        left = self.missing + self.waiting
        if not left:
            return timedelta(0)
        return timedelta(minutes=left / self.per_minute) if self.per_minute else None


def missing(policy: ArchivePolicy) -> QuerySet[Report]:
    """Return the reports that the policy wants and that have no delivery to its interface."""
    there = Delivery.objects.filter(report=OuterRef("pk"), interface=policy.interface_id)
    return covered(policy).filter(~Exists(there))


def coverage(policy: ArchivePolicy) -> Coverage:
    """Count the reports that a policy wants, by the state of their deliveries."""
    left = missing(policy).aggregate(number=Count("pk"), size=Sum("size"))
    of_policy = Delivery.objects.filter(interface=policy.interface_id, report__in=covered(policy).order_by())
    states = dict(of_policy.order_by().values_list("state").annotate(Count("pk")))
    recent = Delivery.objects.filter(
        interface=policy.interface_id,
        state=State.DELIVERED,
        delivered_at__gte=timezone.now() - timedelta(minutes=5),
    )
    return Coverage(
        missing=left["number"],
        missing_bytes=left["size"] or 0,
        waiting=states.get(State.PENDING, 0) + states.get(State.SENDING, 0),
        delivered=states.get(State.DELIVERED, 0),
        failed=states.get(State.FAILED, 0),
        cancelled=states.get(State.CANCELLED, 0),
        per_minute=recent.count() / 5,
    )


def backfill(policy: ArchivePolicy) -> Iterator[int]:
    """Make cancelled deliveries pending again and create missing ones; yield the number after each batch.

    The caller may stop at any point and start again.
    """
    yield from _restore_cancelled(policy)
    yield from create_missing(policy, Priority.BACKFILL)


def _restore_cancelled(policy: ArchivePolicy) -> Iterator[int]:
    rows = Delivery.objects.filter(
        interface=policy.interface_id, state=State.CANCELLED, report__in=covered(policy).order_by()
    )
    while chosen := list(rows.order_by("-pk").values_list("pk", flat=True)[:BATCH]):
        yield Delivery.objects.filter(pk__in=chosen, state=State.CANCELLED).update(
            state=State.PENDING, priority=Priority.BACKFILL, due_at=timezone.now(), diagnosis="", detail=""
        )


def create_missing(policy: ArchivePolicy, priority: Priority) -> Iterator[int]:
    """Create the missing deliveries, the newest reports first; yield the number after each batch.

    A cancelled delivery is not missing: a schedule leaves it cancelled. The caller may stop at any point and start
    again.
    """
    last: datetime | None = None
    while True:
        rows = missing(policy).order_by("-rendered_at", "-pk")
        if last is not None:
            rows = rows.filter(rendered_at__lte=last)
        found = list(rows.values_list("rendered_at", "pk")[:BATCH])
        if not found:
            return
        Delivery.objects.bulk_create(
            [Delivery(report_id=pk, interface_id=policy.interface_id, priority=priority) for _, pk in found],
            ignore_conflicts=True,
        )
        last = found[-1][0]
        yield len(found)


def run_scheduled(now: datetime) -> list[int]:
    """Create what is missing for each policy with a scheduled run due; return their interfaces' ids.

    Any number of processes may do so at the same time. Several missed runs are made up for by one run.
    """
    interfaces = []
    scheduled = ArchivePolicy.objects.filter(enabled=True, schedule__isnull=False).select_related("schedule")
    for policy in scheduled:
        assert policy.schedule is not None
        due = schedules.latest(policy.schedule, after=policy.ran_at, until=now)
        if due is None:
            continue
        for _ in create_missing(policy, Priority.FRESH):
            pass
        # Recorded last: if this process dies before, the next one repeats the run.
        _note_run(policy, due, now)
        interfaces.append(policy.interface_id)
    return interfaces


def _note_run(policy: ArchivePolicy, due: datetime, now: datetime) -> None:
    """Record that the run of `due` was made, and an irregularity if this run or earlier ones were missed."""
    assert policy.schedule is not None
    first = schedules.next_run(policy.schedule, policy.ran_at)
    with transaction.atomic():
        noted = ArchivePolicy.objects.filter(pk=policy.pk, ran_at__lt=due).update(ran_at=due)
        if noted and first and first + MISSED < now:
            irregularities.record_irregularity(
                irregularities.RUN_MISSED,
                policy.interface,
                policy=policy.name,
                due=iso_instant(first),
                made_up_at=iso_instant(now),
            )
