"""Instants as text: as keys, addresses and metadata have them, and as the names of files tell them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_DAY = r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)"
_TIME = r"(?P<hour>\d\d)[-.:h]?(?P<minute>\d\d)(?:[-.:m]?(?P<second>\d\d)s?)?"
_ZONE = r"(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?"
_MOMENT = re.compile(rf"(?<!\d){_DAY}(?:[T_ -]{_TIME}\s?{_ZONE})?(?!\d)")


EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No report was rendered before; an earlier instant is a clock or a format gone wrong."""

AHEAD = timedelta(days=1)
"""How far a renderer's clock, or a local time taken for UTC, may be ahead of ours."""


def is_plausible(rendered_at: datetime, now: datetime) -> bool:
    """Tell whether a report can have been rendered at an instant, as seen from `now`; both are aware."""
    return EARLIEST <= rendered_at <= now + AHEAD


def stamp(when: datetime) -> str:
    """Return an instant to the second, in UTC and in order of time: `20260301T060000Z`."""
    instant = when.astimezone(UTC)
    return f"{instant.year:04}{instant:%m%dT%H%M%SZ}"


def read_stamp(text: str) -> datetime:
    """Read what `stamp` wrote. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def iso(when: datetime) -> str:
    """Return an instant as ISO 8601 in UTC, with microseconds if there are any: `2026-03-01T06:00:00Z`."""
    instant = when.astimezone(UTC)
    fraction = f".{instant.microsecond:06}" if instant.microsecond else ""
    return f"{instant.year:04}-{instant:%m-%dT%H:%M:%S}{fraction}Z"


def moment_in(filename: str, zone: ZoneInfo) -> datetime | None:
    """Return the instant that a file's name tells, None if it tells none.

    Taken are a day, 2026-03-01 or 20260301, and after T, _, blank or hyphen a time, 0600, 06-00-00 or 06.00.00, with
    Z, UTC or an offset such as +0100, or without, then in `zone`. A day alone means its midnight in `zone`. The first
    that is in the calendar counts. A time that a clock shows twice, in autumn, is the first of the two.
    """
    position = 0
    while found := _MOMENT.search(filename, position):
        position = found.start() + 1
        parts = {name: int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")}
        try:
            return datetime(**parts, tzinfo=_zone(found["zone"], zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


def _zone(text: str | None, zone: ZoneInfo) -> ZoneInfo | timezone:
    if not text:
        return zone
    if text in {"Z", "UTC"}:
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)
