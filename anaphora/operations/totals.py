"""Totals of archived and failed deliveries per interface, kept in small tables and updated with each batch of outcomes.

Pages and metrics read these and never count the deliveries themselves. If a process dies after writing outcomes and
before updating the totals, that batch is missing in them until `recount()` counts reports and bytes from the receipts,
every hour.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, timedelta
from typing import Any

from django.db import connection as database
from django.db import models, transaction
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.outcomes import Outcome
from anaphora.operations.models import DailyTotal, FailureTotal, Installation, UploadDuration

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("1e9"))
"""Upper bounds of the histogram of upload durations, in seconds. The last one stands for infinity, which SQLite and
JSON do not share."""

RECOUNT = timedelta(hours=1)


def add(interface_id: int, outcomes: Collection[Outcome], failures: Mapping[str, int]) -> None:
    """Add written outcomes to the totals of an interface. Runs one statement for each total that changes."""
    delivered = [each for each in outcomes if each.state == State.DELIVERED]
    failed = sum(each.state == State.FAILED for each in outcomes)
    with transaction.atomic():
        if delivered or failed:
            today = timezone.now().astimezone(UTC).date()
            size = sum(each.size for each in delivered)
            more = {"reports": len(delivered), "bytes": size, "failed": failed}
            _add(DailyTotal, {"interface_id": interface_id, "day": today}, more)
        if delivered:
            _add_durations(interface_id, [each.upload_seconds for each in delivered])
        for code, number in failures.items():
            _add(FailureTotal, {"interface_id": interface_id, "diagnosis": code}, {"failures": number})


def _add_durations(interface_id: int, durations: Collection[float]) -> None:
    by_bound: dict[float, list[float]] = defaultdict(list)
    for seconds in durations:
        by_bound[BOUNDS[min(bisect_left(BOUNDS, seconds), len(BOUNDS) - 1)]].append(seconds)
    every = [UploadDuration(interface_id=interface_id, bound=bound) for bound in BOUNDS]
    for bound in sorted(by_bound):  # always in the same order, to avoid deadlocks between processes
        more = {"uploads": len(by_bound[bound]), "seconds": sum(by_bound[bound])}
        _add(UploadDuration, {"interface_id": interface_id, "bound": bound}, more, every)


def _add(
    model: type[models.Model],
    key: Mapping[str, Any],
    more: Mapping[str, float],
    missing: Iterable[models.Model] | None = None,
) -> None:
    """Add numbers to the row with `key`. If there is none, create the rows `missing` or, without these, that row.

    Plain SQL, because Django takes longer to build these statements than the database takes to execute them.
    """
    table = model._meta.db_table
    changes = ", ".join(f'"{name}" = "{name}" + %s' for name in more)
    condition = " AND ".join(f'"{name}" = %s' for name in key)
    values = [*more.values(), *(each.isoformat() if isinstance(each, date) else each for each in key.values())]
    with database.cursor() as cursor:
        for _ in range(2):
            cursor.execute(f'UPDATE "{table}" SET {changes} WHERE {condition}', values)  # noqa: S608  # our own names
            if cursor.rowcount:
                return
            model._default_manager.bulk_create(missing or [model(**key)], ignore_conflicts=True)


def recount_if_due() -> bool:
    """Recount if the last recount was an hour ago; return whether this process did."""
    if not Installation.claim("counted_at", before=timezone.now() - RECOUNT):
        return False
    recount()
    return True


def recount() -> None:
    """Recount the reports and bytes of all days from the receipts, in one pass over the deliveries."""
    with transaction.atomic():
        # Locked first, so that concurrent additions wait and are not overwritten.
        known = {(row.interface_id, row.day): row for row in DailyTotal.objects.select_for_update()}
        counted = (
            Delivery.objects.filter(state=State.DELIVERED)
            .order_by()
            .values_list("interface", TruncDate("delivered_at", tzinfo=UTC))
            .annotate(Count("pk"), Sum("size"))
        )
        for row in known.values():
            row.reports = row.bytes = 0
        for interface_id, day, reports, size in counted:
            row = known.setdefault((interface_id, day), DailyTotal(interface_id=interface_id, day=day))
            row.reports, row.bytes = reports, size or 0
        DailyTotal.objects.bulk_create(
            [
                DailyTotal(interface_id=key[0], day=key[1], reports=row.reports, bytes=row.bytes)
                for key, row in known.items()
            ],
            update_conflicts=True,
            unique_fields=["interface", "day"],
            update_fields=["reports", "bytes"],
        )
