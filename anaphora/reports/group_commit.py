"""Group commit: threads that want to save at the same time share one transaction.

For a small report, a transaction costs a web server more than the rows in it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class _Part(Generic[_T, _R]):
    """The values of one thread."""

    values: list[_T]
    results: list[_R] | None = None
    alone: bool = False


class GroupCommit(Generic[_T, _R]):
    """Calls `save` with the values of all threads that wait for it, one call at a time.

    `save` returns a result for each value, in the same order. If it raises an exception for values of several threads,
    each of these threads calls it again with its own values, so that no thread gets the error of another. So `save` may
    be called twice with the same values, even if the first call failed only after its commit.

    A thread that calls `announce()` before it prepares its values lets the others wait for it, for at most `max_wait`
    seconds.
    """

    def __init__(self, save: Callable[[list[_T]], list[_R]], *, max_wait: float = 0.02) -> None:
        self._save, self._max_wait = save, max_wait
        self._leader = Lock()
        self._changed = Condition()
        self._coming: set[Any] = set()
        self._parts: list[_Part[_T, _R]] = []

    def announce(self, key: Any) -> None:
        """Announce a call of `save()` with this key."""
        with self._changed:
            self._coming.add(key)

    def withdraw(self, key: Any) -> None:
        """Take an announcement back, if it was made."""
        with self._changed:
            self._arrived(key)

    def save(self, key: Any, values: list[_T]) -> list[_R]:
        """Save these values, together with those of other threads; return their results."""
        part = _Part[_T, _R](values)
        with self._changed:
            self._parts.append(part)
            self._arrived(key)
        with self._leader:  # whoever gets it saves for all that wait for it
            if part.results is None and not part.alone:
                self._save_parts()
        return self._save(values) if part.results is None else part.results

    def _arrived(self, key: Any) -> None:
        self._coming.discard(key)
        if not self._coming:
            self._changed.notify()

    def _save_parts(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._coming, self._max_wait)
            parts, self._parts = self._parts, []
        if len(parts) == 1:
            parts[0].results = self._save(parts[0].values)
            return
        for part in parts:
            part.alone = True  # unless it gets results
        with suppress(Exception):  # each thread gets its own
            results = iter(self._save([value for part in parts for value in part.values]))
            for part in parts:
                part.results = [next(results) for _ in part.values]
