"""When a crontab is due, across changes to and from daylight saving time. Pure functions.

As in cron's manual: a run at fixed hours happens once a day. If its local time is skipped in spring, it happens later
by the length of the gap; if its local time occurs twice in autumn, it happens at the first occurrence. Runs in every
hour follow elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab
from django_celery_beat.models import CrontabSchedule

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
    until = after + timedelta(days=_YEARS * 366)
    return next((each for each in _runs(schedule, after, until, step=1) if each > after), None)


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
