"""The chart of the last 30 days: bars for an SVG, with the numbers that the page also shows as a table."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Sum

from anaphora.operations.models import DailyTotal

DAYS = 30
WIDTH, HEIGHT, GAP = 20, 110, 5
"""Size of one day's bar, and the gap between two bars, in units of the SVG."""


@dataclass(frozen=True)
class Bar:
    """One UTC day: its numbers, and the positions of its two bars."""

    day: date
    archived: int
    failed: int
    x: int
    y: float
    height: float
    failed_y: float
    failed_height: float


@dataclass(frozen=True)
class Chart:
    """The bars, their scale, and the totals."""

    bars: list[Bar]
    highest: int
    archived: int
    failed: int
    size: int
    width: int
    height: int = HEIGHT
    bar: int = WIDTH


def last_days(now: datetime) -> Chart:
    """Return the last 30 UTC days, including today. Runs one query, on the daily totals."""
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=DAYS - 1)
    rows = DailyTotal.objects.filter(day__gte=first, day__lte=today).values_list("day")
    sums = {
        day: (reports, failed, size)
        for day, reports, failed, size in rows.annotate(Sum("reports"), Sum("failed"), Sum("bytes"))
    }
    highest = max((max(reports, failed) for reports, failed, _ in sums.values()), default=0)
    bars = []
    for number in range(DAYS):
        day = first + timedelta(days=number)
        reports, failed, _ = sums.get(day, (0, 0, 0))
        height, failed_height = _height(reports, highest), _height(failed, highest)
        x = number * (WIDTH + GAP)
        bars.append(Bar(day, reports, failed, x, HEIGHT - height, height, HEIGHT - failed_height, failed_height))
    return Chart(
        bars=bars,
        highest=highest,
        archived=sum(reports for reports, _, _ in sums.values()),
        failed=sum(failed for _, failed, _ in sums.values()),
        size=sum(size for _, _, size in sums.values()),
        width=DAYS * (WIDTH + GAP) - GAP,
    )


def _height(number: int, highest: int) -> float:
    """Return the height of a bar: proportional, but high enough that a single report is visible."""
    return round(max(2.0, HEIGHT * number / highest), 1) if number else 0
