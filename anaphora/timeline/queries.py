"""What a dashboard looked like then: the report that was current at an instant, and its neighbours.

All instants are aware; a date without a time means the end of that day in the viewer's zone.
"""

from calendar import isleap
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Count, Max, Min
from django.db.models.functions import TruncDate

from anaphora.reports.models import Dashboard, Report


@dataclass(frozen=True)
class AsOf:
    """A dashboard at an instant. Of several reports of the same instant, the one that came in last counts."""

    when: datetime
    report: Report | None
    """The latest report at or before the instant; None if there is none."""
    previous: Report | None
    """The one before it."""
    next: Report | None
    """The first one after the instant."""
    formats: dict[str, Report]
    """By content type, the latest report at or before the instant, where the dashboard has reports of several."""

    @property
    def beside(self) -> tuple[Report | None, Report | None]:
        """The one before and the one after."""
        return self.previous, self.next


class BadMoment(ValueError):  # noqa: N818  # of an input
    """What was asked for is no date or time; says what is."""


@dataclass(frozen=True)
class Day:
    """A day of the calendar, in the viewer's zone."""

    date: date
    reports: int
    """How many were rendered."""
    gap: bool
    """Whether there is none although there are reports both before and after."""


@dataclass(frozen=True)
class Calendar:
    """The days of a year, and the years that have reports."""

    year: int
    days: list[Day]
    previous: int | None
    next: int | None


def as_of(dashboard: Dashboard, when: datetime, content_type: str = "") -> AsOf:
    """Return what the dashboard looked like at `when`, which must be aware.

    With `content_type`, report and neighbours are of that format; `formats` has all of them still.
    """
    everything = Report.objects.filter(dashboard=dashboard)
    reports = everything.filter(content_type=content_type) if content_type else everything
    until = reports.filter(rendered_at__lte=when).order_by("-rendered_at", "-ingested_at")
    latest = list(until[:2])
    report = latest[0] if latest else None
    previous = latest[1] if len(latest) > 1 else None
    if report and previous and previous.rendered_at == report.rendered_at:
        previous = until.filter(rendered_at__lt=report.rendered_at).first()
    following = reports.filter(rendered_at__gt=when).order_by("rendered_at", "ingested_at").first()
    formats = {}
    for kind in sorted(everything.order_by().values_list("content_type", flat=True).distinct()):
        own = report is not None and report.content_type == kind
        of_kind = everything.filter(rendered_at__lte=when, content_type=kind)
        if found := report if own else of_kind.order_by("-rendered_at", "-ingested_at").first():
            formats[kind] = found
    for each in (report, previous, following, *formats.values()):
        if each is not None:
            each.dashboard = dashboard  # spares a join in each query
    return AsOf(when, report, previous, following, formats)


def around(dashboard: Dashboard, when: datetime, content_type: str = "", number: int = 5) -> list[Report]:
    """Return the reports around an instant in order of time: up to so many until then, and as many after."""
    reports = Report.objects.filter(dashboard=dashboard)
    reports = reports.filter(content_type=content_type) if content_type else reports
    until = reports.filter(rendered_at__lte=when).order_by("-rendered_at", "-ingested_at")[:number]
    after = reports.filter(rendered_at__gt=when).order_by("rendered_at", "ingested_at")[:number]
    return [*reversed(until), *after]


def calendar(dashboard: Dashboard, year: int, zone: ZoneInfo) -> Calendar:
    """Return the days of a year on which there are reports, and on which not."""
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


def moment(text: str, zone: ZoneInfo, *, begins: bool = False) -> datetime:
    """Return the instant that a text means: ISO 8601, `zone` where it names none. Raises BadMoment.

    A date without a time means the end of that day, or, of what `begins` then, its beginning.
    """
    try:
        if len(text) == len("2026-03-01"):
            return (start_of if begins else end_of)(date.fromisoformat(text), zone)
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMoment(
            f"{text!r} is neither a date such as 2026-03-01 nor a time such as 2026-03-01T14:00 or …T14:00:00Z."
        ) from error
    try:
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise BadMoment(f"{text!r} lies outside the calendar.") from error


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a day. Raises BadMoment."""
    try:
        return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)
    except OverflowError as error:
        raise BadMoment(f"{day.isoformat()} lies outside the calendar.") from error


def end_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the last microsecond of a day, however long the day is there. Raises BadMoment."""
    try:
        return start_of(day + timedelta(days=1), zone) - timedelta(microseconds=1)
    except OverflowError as error:
        raise BadMoment(f"{day.isoformat()} lies outside the calendar.") from error
