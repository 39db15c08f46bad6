"""The registry through which reports ask where they went. Delivery apps fill it in `ready()`; this module,
like all of `reports`, imports none of them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from anaphora.reports.models import Report


@dataclass(frozen=True)
class Whereabouts:
    """What one delivery app says of one delivery of a report, in words for a page."""

    destination: str
    state: str
    """A word of the app's own, such as `delivered`; it also names the style of the mark on the page."""
    detail: str
    """The object's key once it is stored, otherwise what is in the way."""
    url: str
    """The admin page of the delivery."""


@dataclass(frozen=True)
class Evidence:
    """What one delivery app can say for a stored report, in words for somebody who audits."""

    destination: str
    place: str
    """Bucket and endpoint, or what takes their place."""
    name: str
    """How the report is called there: the object's key."""
    version: str
    """Empty: there are none."""
    stored_at: datetime
    integrity: str
    """A sentence: how far the store confirmed that it holds the very bytes that came in."""
    retention: str
    """A sentence: until when the store keeps it from being removed."""


@dataclass(frozen=True)
class Safety:
    """Whether all that is wanted of one report is stored, by what one delivery app knows."""

    since: datetime | None
    """When the last of it was; None while something is missing."""


class NotReadable(Exception):  # noqa: N818  # of an archive, it is a state
    """A report is stored, but its store doesn't let us read it; says why and what would change that."""


class Broken(Exception):  # noqa: N818  # of a stream, it is a state
    """What a store sends isn't the report, or breaks off; says which."""


class Archive(Protocol):
    """What a delivery app answers. Each must cost the same for many ids as for one."""

    def whereabouts(self, reports: Collection[UUID]) -> Mapping[UUID, list[Whereabouts]]:
        """Return the deliveries of those reports that it knows of."""

    def safety(self, reports: Collection[UUID], integrity: str) -> Mapping[UUID, Safety]:
        """Return, for those reports that it should store or does, whether it has, at least with this integrity."""

    def evidence(self, report: Report) -> list[Evidence]:
        """Return what is known of the places where a report is stored."""

    def content(self, report: Report, start: int, end: int) -> Iterator[bytes] | None:
        """Return bytes of a report, from `start` up to before `end`, from where they are stored; None if they aren't.

        Raises NotReadable; the iterator raises Broken.
        """

    def link(self, report: Report, disposition: str) -> str:
        """Return an address that gives the file without us, for a minute; empty where there is none.

        `disposition` is the answer's Content-Disposition.
        """


_archives: list[Archive] = []


def register(archive: Archive) -> None:
    """Let reports ask `archive`. Registering it again changes nothing."""
    if archive not in _archives:
        _archives.append(archive)


def whereabouts(reports: Collection[UUID]) -> dict[UUID, list[Whereabouts]]:
    """Return, for each of the reports, all that the delivery apps know of it."""
    found: dict[UUID, list[Whereabouts]] = {report: [] for report in reports}
    for archive in _archives:
        for report, places in archive.whereabouts(reports).items():
            found[report].extend(places)
    return found


def safe_since(reports: Collection[UUID], integrity: str) -> dict[UUID, datetime]:
    """Return, of those reports that are safely stored wherever they should be, since when; the others not at all.

    A report that is wanted nowhere is not safe.
    """
    answers: dict[UUID, list[Safety]] = {}
    for archive in _archives:
        for report, answer in archive.safety(reports, integrity).items():
            answers.setdefault(report, []).append(answer)
    safe = {}
    for report, found in answers.items():
        moments = [answer.since for answer in found if answer.since is not None]
        if len(moments) == len(found):
            safe[report] = max(moments)
    return safe


def evidence(report: Report) -> list[Evidence]:
    """Return all that the delivery apps can say for a report."""
    return [each for archive in _archives for each in archive.evidence(report)]


def content(report: Report, start: int, end: int) -> Iterator[bytes] | None:
    """Return bytes of a report from the first archive that has them, None if none has. Raises NotReadable.

    The iterator raises Broken.
    """
    refusal: NotReadable | None = None
    for archive in _archives:
        try:
            if (found := archive.content(report, start, end)) is not None:
                return found
        except NotReadable as error:
            refusal = error
    if refusal is not None:
        raise refusal
    return None


def link(report: Report, disposition: str) -> str:
    """Return an address that gives the file without us, for a minute; empty where there is none."""
    return next((found for archive in _archives if (found := archive.link(report, disposition))), "")
