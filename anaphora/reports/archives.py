"""The registry through which reports ask where they went. Delivery apps fill it in `ready()`; this module,
like all of `reports`, imports none of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID


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


Finder = Callable[[Collection[UUID]], Mapping[UUID, list[Whereabouts]]]
"""Takes report ids, answers for those that it knows of. It must cost the same for many ids as for one."""

_finders: list[Finder] = []


def register(finder: Finder) -> None:
    """Let reports ask `finder`. Registering it again changes nothing."""
    if finder not in _finders:
        _finders.append(finder)


def whereabouts(reports: Collection[UUID]) -> dict[UUID, list[Whereabouts]]:
    """Return, for each of the reports, all that the delivery apps know of it."""
    found: dict[UUID, list[Whereabouts]] = {report: [] for report in reports}
    for report, places in _answers(reports):
        found[report].extend(places)
    return found


def _answers(reports: Collection[UUID]) -> Iterator[tuple[UUID, list[Whereabouts]]]:
    for finder in _finders:
        yield from finder(reports).items()
