"""Threads that upload: as many at once as pay, up to a limit.

A store that is far away wants many uploads at once, as each of them mostly waits. One that answers at once wants few:
threads that all have something to compute take turns, and the turns themselves cost up to a third of the throughput.
So the pool begins with two, and a few times a second compares the CPU time that the process used with the time that
passed.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

WINDOW = 0.2
"""Seconds between two looks at what the process used."""

IDLE, BUSY = 0.6, 0.75
"""The share of one core under which more threads pay, and over which fewer do. Between them, it is well as it is."""


class Pool:
    """At most `most` threads, of which `width` work at the same time. Jobs must not raise."""

    def __init__(self, most: int) -> None:
        self.width = min(2, most)
        self._most = most
        self._jobs: deque[Callable[[], None]] = deque()
        self._working = 0
        self._closing = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._looked_at, self._used = time.monotonic(), time.process_time()

    def submit(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Let these be done, in this order, as threads fall free."""
        with self._changed:
            self._jobs.extend(jobs)
        self._fill_up()

    def adapt(self) -> None:
        """Widen or narrow by what the process has used of a core since the last look, if that is long enough ago."""
        now, used = time.monotonic(), time.process_time()
        if now - self._looked_at < WINDOW:
            return
        share = (used - self._used) / (now - self._looked_at)
        self._looked_at, self._used = now, used
        if share > BUSY:
            self.width = max(1, self.width - 1)
        elif share < IDLE:
            self.width = min(self._most, self.width * 2)
            self._fill_up()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do what was submitted, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _fill_up(self) -> None:
        with self._changed:
            self._changed.notify(self.width)
        while len(self._threads) < min(self.width, len(self._threads) + len(self._jobs)):
            thread = threading.Thread(target=self._work, name=f"upload-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._jobs and self._working < self.width) or self._closing)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
                self._working += 1
            try:
                job()
            finally:
                with self._changed:
                    self._working -= 1
