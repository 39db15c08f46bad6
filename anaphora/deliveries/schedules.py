"""When a crontab is due, over the changes between summer and winter time too. Pure functions.

A run at fixed hours happens once a day, whatever the clock does: at a time that is left out in spring it happens as
much later as was left out, at a time that comes twice in autumn the first time. A run in every hour goes by real
time. (So does cron, by its manual.)
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab
from django_celery_beat.models import CrontabSchedule

_YEARS = 8
"""How far to look: 29 February may be eight years away."""


def latest(schedule: CrontabSchedule, *, after: datetime, until: datetime) -> datetime | None:
    """Return the latest run that is due later than `after` and not later than `until`, both aware; None for none."""
    found = [each for each in _runs(schedule, after, until, step=-1) if after < each <= until]
    return found[0] if found else None


def runs(schedule: CrontabSchedule, *, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the runs that are due later than `after` and not later than `until`, in UTC, the earliest first."""
    return (each for each in _runs(schedule, after, until, step=1) if after < each <= until)


def next_run(schedule: CrontabSchedule, after: datetime) -> datetime | None:
    """Return the first run later than `after`, in UTC; None if there is none in sight."""
    until = after + timedelta(days=_YEARS * 366)
    return next((each for each in _runs(schedule, after, until, step=1) if each > after), None)


def _runs(schedule: CrontabSchedule, after: datetime, until: datetime, *, step: int) -> Iterator[datetime]:
    """Yield the runs on the days from `after` to `until`, or the other way round."""
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
        return  # such as 31 February: never
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
            shown = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  # what a clock there shows
            instants = {shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
            there = {each for each in instants if each.astimezone(zone).replace(tzinfo=None) == shown}
            if every_hour:
                found |= there
            else:
                found.add(min(there) if there else shown.replace(tzinfo=zone).astimezone(UTC))
    return found
