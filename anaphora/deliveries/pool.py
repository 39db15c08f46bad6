"""An adaptive pool of threads for uploads.

With a distant store, many threads increase the throughput, because each of them mostly waits. With a store that answers
immediately, few threads are better: threads that compete for the interpreter reduce the throughput by up to a third.
The pool starts with two threads and a few times a second compares the CPU time of the process with the elapsed time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

WINDOW = 0.2
"""Seconds between two measurements of the CPU time."""

IDLE, BUSY = 0.6, 0.75
"""The share of one core below which the pool grows, and above which it shrinks."""


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
        self._measured_at, self._used = time.monotonic(), time.process_time()

    def submit(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Queue jobs; threads run them in this order."""
        with self._changed:
            self._jobs.extend(jobs)
        self._start_threads()

    def adapt(self) -> None:
        """Grow or shrink by the CPU time since the last measurement, at most once per WINDOW."""
        now, used = time.monotonic(), time.process_time()
        if now - self._measured_at < WINDOW:
            return
        share = (used - self._used) / (now - self._measured_at)
        self._measured_at, self._used = now, used
        if share > BUSY:
            self.width = max(1, self.width - 1)
        elif share < IDLE:
            self.width = min(self._most, self.width * 2)
            self._start_threads()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Run all queued jobs, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_threads(self) -> None:
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
