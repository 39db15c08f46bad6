"""Computes when a crontab is due, across daylight saving time changes, and describes it in words. Pure functions.

As in cron's manual: a run at fixed hours happens once a day. If its local time is skipped in spring, it happens later
by the length of the gap; if its local time occurs twice in autumn, it happens at the first occurrence. Runs in every
hour follow elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab
from django_celery_beat.models import CrontabSchedule

CRON_FIELDS = ["minute", "hour", "day_of_month", "month_of_year", "day_of_week"]
"""The fields of a crontab, in the order of cron's manual."""

WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
"""The days of the week by cron's numbers."""

_YEARS = 8
"""How many years to search: 29 February may be eight years away."""


def latest(schedule: CrontabSchedule, *, after: datetime, until: datetime) -> datetime | None:
    """Return the latest run that is due later than `after` and not later than `until`, both aware; None for none."""
    found = [each for each in _runs(schedule, after, until, step=-1) if after < each <= until]
    return found[0] if found else None


def runs(schedule: CrontabSchedule, *, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the runs that are due later than `after` and not later than `until`, in UTC, the earliest first."""
    return (each for each in _runs(schedule, after, until, step=1) if after < each <= until)


def next_run(schedule: CrontabSchedule, after: datetime) -> datetime | None:
    """Return the first run later than `after`, in UTC; None if there is none within eight years."""
    return next(iter(next_runs(schedule, after, 1)), None)


def next_runs(schedule: CrontabSchedule, after: datetime, number: int) -> list[datetime]:
    """Return the first `number` runs later than `after`, in UTC; fewer if eight years have fewer."""
    return list(islice(runs(schedule, after=after, until=after + timedelta(days=_YEARS * 366)), number))


# In words.


def cron_fields(schedule: CrontabSchedule) -> list[str]:
    """Return the five fields of a crontab, without blanks."""
    return ["".join(str(getattr(schedule, name)).split()) for name in CRON_FIELDS]


def kind(schedule: CrontabSchedule) -> str:
    """Return "hourly", "daily" or "weekly" if a crontab is no more than that, otherwise "crontab"."""
    minute, hour, day, month, weekday = cron_fields(schedule)
    if (day, month) != ("*", "*") or not minute.isdecimal():
        return "crontab"
    if (hour, weekday) == ("*", "*"):
        return "hourly"
    if not hour.isdecimal():
        return "crontab"
    if weekday == "*":
        return "daily"
    return "weekly" if weekday.isdecimal() else "crontab"


def describe(schedule: CrontabSchedule) -> str:
    """Return a schedule in words: `weekly on Monday at 06:00 (Europe/Berlin)`."""
    minute, hour, day, month, weekday = cron_fields(schedule)
    match kind(schedule):
        case "hourly":
            text = f"every hour at minute {int(minute)}"
        case "daily":
            text = f"daily at {int(hour):02}:{int(minute):02}"
        case "weekly":
            text = f"weekly on {WEEKDAYS[int(weekday) % 7]} at {int(hour):02}:{int(minute):02}"
        case _:
            text = f"crontab {minute} {hour} {day} {month} {weekday}"
    return f"{text} ({schedule.timezone})"


def in_words(run: datetime, schedule: CrontabSchedule) -> str:
    """Return a run in the time zone of its schedule, and in UTC."""
    zone = str(schedule.timezone)
    local = f"{run.astimezone(ZoneInfo(zone)):%a %d %b %Y, %H:%M} {zone}"
    return local if zone == "UTC" else f"{local} ({run.astimezone(UTC):%H:%M} UTC)"


def _runs(schedule: CrontabSchedule, after: datetime, until: datetime, *, step: int) -> Iterator[datetime]:
    """Yield the runs on the days from `after` to `until`, in reverse order if `step` is negative."""
    zone = ZoneInfo(str(schedule.timezone))
    try:
        due: Any = crontab(
            minute=schedule.minute,
            hour=schedule.hour,
            day_of_week=schedule.day_of_week,
            day_of_month=schedule.day_of_month,
            month_of_year=schedule.month_of_year,
        )
    except (ValueError, ParseException):
        return  # for example 31 February, which never comes
    first, last = after.astimezone(zone).date(), until.astimezone(zone).date()
    day = first if step > 0 else last
    while first <= day <= last:
        if day.month in due.month_of_year and day.day in due.day_of_month and day.isoweekday() % 7 in due.day_of_week:
            yield from sorted(_instants(due, day, zone), reverse=step < 0)
        day += timedelta(days=step)


def _instants(due: Any, day: date, zone: ZoneInfo) -> set[datetime]:
    every_hour = len(due.hour) == 24
    found = set()
    for hour in due.hour:
        for minute in due.minute:
            local = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  # local time, without a zone
            instants = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
            existing = {each for each in instants if each.astimezone(zone).replace(tzinfo=None) == local}
            if every_hour:
                found |= existing
            else:
                found.add(min(existing) if existing else local.replace(tzinfo=zone).astimezone(UTC))
    return found
