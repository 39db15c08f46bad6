"""Limits how long one run of the engine starts new uploads, so that other interfaces get their turn."""

import multiprocessing
import threading
from time import monotonic

OUTLASTING_SECONDS = 3.0
"""If an upload takes this much longer than the run's time, the run continues with other uploads meanwhile."""

# Shared with the processes that the worker forks, so that setting it in the main process ends the runs in all of them.
_stopping = multiprocessing.Event()


def stop_all() -> None:
    """End the runs of this process and of processes forked from it, because the worker must end."""
    _stopping.set()


class TimeSlice:
    """The time of one run, and whether it continues while a long upload is still in progress.

    While `halt` is set, no upload is started. `started` contains the ids of the deliveries being uploaded.
    """

    def __init__(self, seconds: float | None) -> None:
        self.halt = threading.Event()
        self.started: set[int] = set()
        self._end = monotonic() + seconds if seconds is not None else float("inf")
        self._ended_at = 0.0
        self._outlasting: set[int] | None = None

    def halt_if_over(self) -> bool:
        """Halt if the time is over now; return whether it has just become so."""
        if self.halt.is_set():
            return False
        outlasted = self._outlasting is not None and not self._outlasting & self.started
        if not (monotonic() > self._end or outlasted or _stopping.is_set()):
            return False
        self._end, self._ended_at, self._outlasting = float("inf"), monotonic(), None
        self.halt.set()
        return True

    def resume_if_outlasted(self) -> bool:
        """Continue if an upload outlasts the run: this process must wait for it anyway."""
        over = self._ended_at and monotonic() - self._ended_at > OUTLASTING_SECONDS
        if not over or _stopping.is_set():
            return False
        self._ended_at, self._outlasting = 0.0, set(self.started)
        self.halt = threading.Event()
        return True

    def halt_for_good(self) -> None:
        """Halt, and do not resume."""
        self._ended_at = 0.0
        self.halt.set()
