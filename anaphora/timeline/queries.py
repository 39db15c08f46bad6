"""As-of queries: the report that was current at an instant, and the reports before and after it.

All instants are aware. A date without a time means the end of that day in the time zone of the viewer.
"""

from calendar import isleap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Count, Max, Min
from django.db.models.functions import TruncDate

from anaphora.reports.models import Dashboard, Report


@dataclass(frozen=True)
class AsOf:
    """The reports of a dashboard as of an instant. Of several reports of one instant, the last one ingested counts."""

    instant: datetime
    report: Report | None
    """The latest report at or before the instant, or None."""
    previous: Report | None
    """The report before `report`."""
    next: Report | None
    """The first report after the instant."""


class InvalidInstant(ValueError):  # noqa: N818
    """The text is not a valid date or time. The message shows valid examples."""


@dataclass(frozen=True)
class Day:
    """A day of the calendar, in the time zone of the viewer."""

    date: date
    reports: int
    """Number of reports rendered on that day."""
    gap: bool
    """True if the day has no report, but earlier and later days have."""


@dataclass(frozen=True)
class Calendar:
    """The days of a year, and the years that have reports."""

    year: int
    days: list[Day]
    previous: int | None
    next: int | None


def as_of(dashboard: Dashboard, instant: datetime, content_type: str = "") -> AsOf:
    """Return the reports of a dashboard as of an aware instant, of one content type if it is given."""
    found = {report.place: report for report in _select(_AS_OF, dashboard, instant, content_type)}
    return AsOf(instant, found.get("current"), found.get("previous"), found.get("next"))


def latest_by_format(dashboard: Dashboard, instant: datetime) -> dict[str, Report]:
    """Return the latest report at or before an aware instant for each content type, sorted by content type."""
    found = {report.content_type: report for report in _select(_FORMATS, dashboard, instant)}
    return dict(sorted(found.items()))


def _select(statement: str, dashboard: Dashboard, instant: datetime, content_type: str = "") -> Iterator[Any]:
    """Yield the reports that a statement selects, with its additional columns as attributes."""
    wanted = "dashboard_id = %(dashboard)s" + (" AND content_type = %(content_type)s" if content_type else "")
    values = {
        "dashboard": dashboard.pk,
        "instant": connection.ops.adapt_datetimefield_value(instant),
        "content_type": content_type,
    }
    for report in Report.objects.raw(statement.format(wanted=wanted), values):
        report.dashboard = dashboard  # avoids a query for each
        yield report


# One statement instead of one for each report, because this is asked most. Each part reads a few entries of an index.
# The columns of `current` come first, because they name those of all parts.
_AS_OF = """
WITH current AS (
    SELECT * FROM reports_report WHERE {wanted} AND rendered_at <= %(instant)s
    ORDER BY rendered_at DESC, ingested_at DESC LIMIT 1
), previous AS (
    SELECT * FROM reports_report WHERE {wanted} AND rendered_at < (SELECT rendered_at FROM current)
    ORDER BY rendered_at DESC, ingested_at DESC LIMIT 1
), next AS (
    SELECT * FROM reports_report WHERE {wanted} AND rendered_at > %(instant)s ORDER BY rendered_at, ingested_at LIMIT 1
)
SELECT 'current' AS place, current.* FROM current
UNION ALL SELECT 'previous', previous.* FROM previous
UNION ALL SELECT 'next', next.* FROM next
"""

# Jumps from one content type to the next instead of reading all reports of the dashboard.
_FORMATS = """
WITH RECURSIVE format (content_type) AS (
    SELECT min(content_type) FROM reports_report WHERE {wanted}
    UNION ALL
    SELECT (SELECT min(content_type) FROM reports_report WHERE {wanted} AND content_type > format.content_type)
    FROM format WHERE format.content_type IS NOT NULL
)
SELECT report.* FROM format JOIN reports_report AS report ON report.id = (
    SELECT id FROM reports_report
    WHERE {wanted} AND content_type = format.content_type AND rendered_at <= %(instant)s
    ORDER BY rendered_at DESC, ingested_at DESC LIMIT 1)
"""


def reports_around(dashboard: Dashboard, instant: datetime, content_type: str = "", number: int = 5) -> list[Report]:
    """Return up to `number` reports until an instant and up to `number` after it, sorted by time."""
    reports = Report.objects.filter(dashboard=dashboard)
    reports = reports.filter(content_type=content_type) if content_type else reports
    until = reports.filter(rendered_at__lte=instant).order_by("-rendered_at", "-ingested_at")[:number]
    after = reports.filter(rendered_at__gt=instant).order_by("rendered_at", "ingested_at")[:number]
    return [*reversed(until), *after]


def calendar(dashboard: Dashboard, year: int, zone: ZoneInfo) -> Calendar:
    """Return the days of a year with their number of reports."""
    reports = Report.objects.filter(dashboard=dashboard).order_by()
    span = reports.aggregate(first=Min("rendered_at"), last=Max("rendered_at"))
    if span["first"] is None:
        return Calendar(year, [], None, None)
    first, last = (span[end].astimezone(zone).date() for end in ("first", "last"))
    start = datetime(year, 1, 1, tzinfo=zone)
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=zone)
    counts = dict(
        reports.filter(rendered_at__gte=start, rendered_at__lte=end)
        .values_list(TruncDate("rendered_at", tzinfo=zone))
        .annotate(Count("pk"))
    )
    days = [start.date() + timedelta(days=number) for number in range(366 if isleap(year) else 365)]
    return Calendar(
        year,
        [Day(day, counts.get(day, 0), first < day < last and day not in counts) for day in days],
        year - 1 if first.year < year else None,
        year + 1 if last.year > year else None,
    )


def parse_instant(text: str, zone: ZoneInfo, *, is_start: bool = False) -> datetime:
    """Parse ISO 8601. Without an offset, the time is in `zone`. Raises InvalidInstant.

    A date without a time means the end of that day, or with `is_start` the start of that day.
    """
    try:
        if len(text) == len("2026-03-01"):
            return (start_of_day if is_start else end_of_day)(date.fromisoformat(text), zone)
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInstant(
            f"{text!r} is not a date or time. Use for example 2026-03-01, 2026-03-01T14:00 or …T14:00:00Z."
        ) from error
    try:
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise InvalidInstant(f"{text!r} is outside the supported range of years.") from error


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a day. Raises InvalidInstant."""
    try:
        return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)
    except OverflowError as error:
        raise InvalidInstant(f"{day.isoformat()} is outside the supported range of years.") from error


def end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the last microsecond of a day, also on days with a change of the clock. Raises InvalidInstant."""
    try:
        return start_of_day(day + timedelta(days=1), zone) - timedelta(microseconds=1)
    except OverflowError as error:
        raise InvalidInstant(f"{day.isoformat()} is outside the supported range of years.") from error
