"""An adaptive pool of threads for uploads.

With a distant store, many threads increase the throughput, because each of them mostly waits. With a store that answers
immediately, few threads are better: threads that compete for the interpreter reduce the throughput by up to a third.
A pool starts with two threads, or with as many as the last pool had at its end, and adapts a few times a second by
comparing the CPU time of the process with the elapsed time.
"""

import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import TracebackType

WINDOW = 0.1
"""Seconds between two measurements of the CPU time."""

IDLE, BUSY = 0.6, 0.75
"""The share of one core below which the pool grows, and above which it shrinks."""


class Pool:
    """At most `most` threads, of which `width` work at the same time. Jobs must not raise.

    A thread takes jobs for as long as its number is below `width`. One that waits for a job when the pool shrinks may
    still take one.
    """

    def __init__(self, most: int, width: int = 2) -> None:
        self.width = min(width, most)
        self._most = most
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._resized = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._measured_at, self._used = time.monotonic(), time.process_time()

    def submit(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Queue jobs; threads run them in this order."""
        for job in jobs:
            self._jobs.put(job)
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
        elif share < IDLE and self.width < self._most:
            self._grow(min(self._most, self.width * 2))

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Run all queued jobs, then end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        with self._resized:
            self.width = self._most  # also waiting threads must each take a None, which ends them
            self._resized.notify_all()
        for thread in self._threads:
            thread.join()

    def _grow(self, width: int) -> None:
        with self._resized:
            self.width = width
            self._resized.notify_all()
        self._start_threads()

    def _start_threads(self) -> None:
        while len(self._threads) < self.width and not self._jobs.empty():
            number = len(self._threads)
            thread = threading.Thread(target=self._work, args=[number], name=f"upload-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, number: int) -> None:
        while True:
            if number >= self.width:
                with self._resized:
                    self._resized.wait_for(lambda: number < self.width)
            job = self._jobs.get()
            if job is None:
                return
            job()
