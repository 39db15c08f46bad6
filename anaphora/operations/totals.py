"""Totals of what was archived and what failed, per interface: kept in small tables as outcomes are written.

Pages and metrics read these and never count the deliveries themselves. A process that dies between an outcome and its
count leaves the totals behind by that batch; `recount()`, every hour, counts reports and bytes anew from the receipts.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, timedelta

from django.db import transaction
from django.db.models import Case, Count, F, FloatField, IntegerField, Sum, Value, When
from django.db.models.functions import TruncDate
from django.utils import timezone

from anaphora.deliveries.models import Delivery, State
from anaphora.operations.models import DailyTotal, FailureTotal, Installation, UploadDuration

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("1e9"))
"""Upper bounds of the histogram of upload durations, in seconds. The last one stands for infinity, which SQLite and
JSON do not share."""

RECOUNT = timedelta(hours=1)


def add(interface_id: int, outcomes: Collection[Delivery], failures: Mapping[str, int]) -> None:
    """Add what was written for an interface: two statements for a batch that was delivered."""
    delivered = [each for each in outcomes if each.state == State.DELIVERED]
    failed = sum(each.state == State.FAILED for each in outcomes)
    if delivered or failed:
        _add_to_day(interface_id, len(delivered), sum(each.size or 0 for each in delivered), failed)
    if delivered:
        _add_durations(interface_id, [each.upload_seconds for each in delivered])
    for code, number in failures.items():
        of_code = FailureTotal.objects.filter(interface_id=interface_id, diagnosis=code)
        if not of_code.update(failures=F("failures") + number):
            FailureTotal.objects.bulk_create(
                [FailureTotal(interface_id=interface_id, diagnosis=code)], ignore_conflicts=True
            )
            of_code.update(failures=F("failures") + number)


def _add_to_day(interface_id: int, reports: int, size: int, failed: int) -> None:
    today = timezone.now().astimezone(UTC).date()
    row = DailyTotal.objects.filter(interface_id=interface_id, day=today)
    more = {"reports": F("reports") + reports, "bytes": F("bytes") + size, "failed": F("failed") + failed}
    if not row.update(**more):
        DailyTotal.objects.bulk_create([DailyTotal(interface_id=interface_id, day=today)], ignore_conflicts=True)
        row.update(**more)


def _add_durations(interface_id: int, durations: Collection[float]) -> None:
    numbers: Counter[float] = Counter()
    sums: Counter[float] = Counter()
    for seconds in durations:
        bound = BOUNDS[min(bisect_left(BOUNDS, seconds), len(BOUNDS) - 1)]
        numbers[bound] += 1
        sums[bound] += seconds  # type: ignore[assignment]  # typeshed knows counters of whole numbers alone
    rows = UploadDuration.objects.filter(interface_id=interface_id, bound__in=numbers)
    chosen = [(bound, numbers[bound], sums[bound]) for bound in sorted(numbers)]
    more = {
        "uploads": F("uploads")
        + Case(
            *(When(bound=bound, then=Value(number)) for bound, number, _ in chosen),
            default=0,
            output_field=IntegerField(),
        ),
        "seconds": F("seconds")
        + Case(
            *(When(bound=bound, then=Value(float(total))) for bound, _, total in chosen),
            default=0.0,
            output_field=FloatField(),
        ),
    }
    if not rows.update(**more):  # all bounds exist, or none does
        UploadDuration.objects.bulk_create(
            [UploadDuration(interface_id=interface_id, bound=bound) for bound in BOUNDS], ignore_conflicts=True
        )
        rows.update(**more)


def recount_if_due() -> bool:
    """Count anew if that was last done an hour ago; return whether this process did."""
    if not Installation.claim("counted_at", before=timezone.now() - RECOUNT):
        return False
    recount()
    return True


def recount() -> None:
    """Count reports and bytes of all days anew from the receipts: one pass over the deliveries."""
    with transaction.atomic():
        # Locked first, so that what is added meanwhile waits and is not overwritten.
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
