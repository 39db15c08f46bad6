"""The delivery engine: the one path of every report to an interface.

`deliver_due()` claims due deliveries under a lease (`queue`), sends them with a pool of threads (`sending`), records
the outcomes together (`outcomes`), and goes on until nothing is due. Any number of processes may run it at the same
time, and any of them may die at any moment: a lease that ran out makes its deliveries pending again, and the
conditional write makes a repeated upload harmless.

No thread of the pool touches the database.
"""

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db import connection as database
from django.utils import timezone

from anaphora.deliveries import errors, files, outcomes, queue, sending, time_slice
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface
from anaphora.deliveries.outcomes import Drained, Finished
from anaphora.deliveries.pool import WINDOW, Pool
from anaphora.deliveries.sending import Job, Result
from anaphora.deliveries.time_slice import TimeSlice

logger = logging.getLogger(__name__)

BATCH = 50
"""Deliveries claimed at once: enough to make the database's share small, few enough to lose little with one."""

AHEAD = BATCH // 2
"""Deliveries that wait in the pool when the next ones are claimed, so that no thread waits for the database."""

SETTLE_SECONDS = 2.0
"""How long an outcome may wait for others before it is written."""

RECONNECT_SECONDS = 1.0
"""How long to wait before the database is tried again."""


def deliver_due(
    interface_id: int,
    *,
    ignore_pause: bool = False,
    seconds: float | None = None,
    on_backlog: Callable[[], None] = lambda: None,
) -> Drained:
    """Deliver what is due for an interface, until nothing is or the interface fails.

    The interface is read again for each claim. A paused interface is skipped unless `ignore_pause`. With `seconds`,
    nothing new is claimed after that time, unless an upload outlasts it: `Drained.unfinished` says whether there may be
    more. `on_backlog` is called once if more is due than one claim holds. Failures that the catalogue knows are
    recorded, not raised.
    """
    return _Run(interface_id, ignore_pause=ignore_pause, seconds=seconds, on_backlog=on_backlog).drain()


def stop() -> None:
    """End the runs of this process and of processes forked from it, because the worker must end.

    Uploads in progress are finished; all other claimed deliveries become pending again.
    """
    time_slice.stop_all()


_widths: dict[int, int] = {}
"""How many threads the last run for an interface had at its end."""


class _Run:
    """One run of `deliver_due()`: claims under its own lease, and keeps its pool of threads filled.

    A large report occupies one thread and does not delay the small ones behind it: as threads become free, more
    deliveries are claimed. Outcomes are written together, but none waits longer than SETTLE_SECONDS.
    """

    def __init__(
        self, interface_id: int, *, ignore_pause: bool, seconds: float | None, on_backlog: Callable[[], None]
    ) -> None:
        self._interface_id, self._ignore_pause = interface_id, ignore_pause
        self._on_backlog: Callable[[], None] | None = on_backlog
        self._slice = TimeSlice(seconds)
        self._lease = uuid.uuid4()
        self._renewed = self._settled_at = monotonic()
        self._more, self._in_flight, self._claimed_at = True, 0, monotonic()
        self._done: deque[Finished] = deque()
        self._wanted, self._wake = 0, threading.Event()
        self._drained = Drained()

    def drain(self) -> Drained:
        """Claim, upload and settle until there is nothing left to claim and nothing in flight."""
        with Pool(settings.DELIVERY_CONCURRENCY, _widths.get(self._interface_id, 2)) as pool:
            try:
                while self._advance_and_survive(pool):
                    pool.adapt()
                    _widths[self._interface_id] = pool.width
            except BaseException:
                self._slice.halt_for_good()  # outcomes can no longer be recorded, so start no more uploads
                raise
        return self._drained

    def _advance_and_survive(self, pool: Pool) -> bool:
        """Do the next step; return whether there is more to do.

        If the database connection breaks, nothing new is started, but what is being uploaded is still recorded, by
        a new connection, for as long as the lease holds.
        """
        try:
            more = self._advance(pool)
            self._renew()
        except (OperationalError, InterfaceError) as error:
            expired = monotonic() - self._renewed > settings.DELIVERY_LEASE_SECONDS
            if expired or not self._in_flight or database.in_atomic_block:
                raise
            logger.warning(
                "The database connection broke; %d deliveries wait to be recorded: %s", self._in_flight, error
            )
            self._slice.halt_for_good()
            self._more, self._drained.unfinished = False, True
            database.close()
            sleep(RECONNECT_SECONDS)
            return True
        return more

    def _advance(self, pool: Pool) -> bool:
        """Claim if there is room, wait, settle what is done; return whether there is more to do."""
        self._check_time()
        room = settings.DELIVERY_CONCURRENCY + AHEAD
        if self._more and self._in_flight - len(self._done) < room:
            self._more = self._claim(pool)
        self._wait_for(self._in_flight - room + 1 if self._more else self._in_flight)
        everything = len(self._done) == self._in_flight
        if everything or len(self._done) >= BATCH or monotonic() - self._settled_at > SETTLE_SECONDS:
            self._settle()
        return self._more or bool(self._in_flight)

    def _check_time(self) -> None:
        if self._slice.halt_if_over():
            self._drained.unfinished = True  # deliveries that no thread has started become pending again
        elif self._slice.resume_if_outlasted() or self._more_may_be_due():
            self._more = True

    def _more_may_be_due(self) -> bool:
        """Return whether to claim again: deliveries may have become due since the last claim returned none."""
        waiting = not self._more and self._in_flight and not self._slice.halt.is_set()
        return bool(waiting) and monotonic() - self._claimed_at > SETTLE_SECONDS

    def _wait_for(self, number: int) -> None:
        """Wait until this many uploads are done, at most for WINDOW. Waking up for each one would slow the threads."""
        self._wanted = number
        self._wake.clear()
        if len(self._done) < number:
            self._wake.wait(WINDOW)

    def _claim(self, pool: Pool) -> bool:
        """Claim what is due and hand it to the pool; return whether there may be more to claim."""
        interface = self._usable_interface()
        if interface is None:
            return False
        try:
            destination = interface.destination()
        except DeliveryError as error:
            outcomes.pause(interface.pk, error)
            self._drained.count(error)
            return False
        self._claimed_at = monotonic()
        batch = queue.claim(interface.pk, self._lease, BATCH)
        removed = [each.report_id for each in batch if not each.file]
        copies = files.stored_copies(removed) if removed else {}
        if len(batch) == BATCH and self._on_backlog:
            self._on_backlog()
            self._on_backlog = None
        self._in_flight += len(batch)
        jobs = [Job(each, destination, interface.key_prefix, copies.get(each.report_id, ())) for each in batch]
        pool.submit(partial(self._send, job) for job in jobs)
        return bool(batch)

    def _usable_interface(self) -> Interface | None:
        """Return the interface as it is now, or None where nothing may be claimed for it."""
        if self._slice.halt.is_set():
            return None
        interface: Interface | None = (
            Interface.objects.filter(pk=self._interface_id, enabled=True).select_subclasses().first()
        )
        if interface is None:
            return None
        paused = interface.paused_until is not None and interface.paused_until > timezone.now()
        return None if paused and not self._ignore_pause else interface

    def _send(self, job: Job) -> None:
        """Upload one report, in a thread of the pool."""
        result: Result = DeliveryError(errors.INTERNAL, "The thread ended")
        key, began = job.delivery.pk, monotonic()
        self._slice.started.add(key)
        try:
            result = sending.send(job, self._slice.halt)
        finally:
            self._slice.started.discard(key)
            self._done.append(Finished(job.delivery, result, monotonic() - began))
            if len(self._done) >= self._wanted:
                self._wake.set()

    def _settle(self) -> None:
        self._settled_at = monotonic()
        finished = [self._done[number] for number in range(len(self._done))]
        if not finished:
            return
        failure = outcomes.settle(self._lease, finished, self._drained)
        for _ in finished:  # only after settling: if the database fails, they must be settled again
            self._done.popleft()
        self._in_flight -= len(finished)
        if failure:
            self._slice.halt_for_good()
        outcomes.update_interface(self._interface_id, finished, failure)

    def _renew(self) -> None:
        """Extend the lease of what is in flight, well before it runs out."""
        if self._in_flight and monotonic() - self._renewed > settings.DELIVERY_LEASE_SECONDS / 3:
            queue.renew(self._lease)
            self._renewed = monotonic()
