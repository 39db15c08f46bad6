"""Plan and deliver: the one path of every report into a bucket.

The database is the queue. `plan()` makes pending deliveries; `deliver_due()` claims them under a lease, uploads
them with a thread pool over one cached client, writes the outcomes in bulk and goes on until nothing is due. Any
number of processes may run it at the same time, and any of them may die at any moment: a lease that ran out makes
its deliveries pending again, and the conditional write makes a repeated upload harmless.

No thread of the pool touches the database.
"""

import hashlib
import logging
import multiprocessing
import os
import random
import tempfile
import threading
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from io import BufferedReader
from time import monotonic, sleep
from typing import BinaryIO, cast

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db import connection as database
from django.db.models import Q
from django.utils import timezone

from anaphora.deliveries import queue
from anaphora.deliveries.destinations import Condition, Receipt, Upload
from anaphora.deliveries.models import ArchivePolicy, Delivery, State
from anaphora.deliveries.object_keys import content_disposition, object_key, object_metadata
from anaphora.deliveries.pool import WINDOW, Pool
from anaphora.reports.ingest import IngestError, check_space
from anaphora.reports.models import Report
from delivery_s3.diagnoses import DeliveryError, Scope
from delivery_s3.models import S3Interface
from delivery_s3.storage import ArchiveStorage

logger = logging.getLogger(__name__)

BATCH = 50
"""Deliveries claimed at once: enough to make the database's share small, few enough to lose little with one."""

SETTLE_SECONDS = 2.0
"""How long an outcome may wait for others before it is written."""

OUTLASTING_SECONDS = 3.0
"""By how much an upload must outlast its run's time for the run to go on with others."""

BACKOFF_BASE = 5
"""Seconds. The first retry waits for up to twice as long; each further one for up to twice as long as the last."""

RECONNECT_SECONDS = 1.0
"""How long to wait before the database is tried again."""

PROBE_SECONDS = 60
"""The longest pause after a failure that may as well be one report's own: a fresh report tells, and shouldn't wait."""


@dataclass
class Drained:
    """What one run of `deliver_due()` did. `diagnoses` counts (code, detail) of what was not delivered."""

    delivered: int = 0
    failed: int = 0
    postponed: int = 0
    diagnoses: Counter[tuple[str, str]] = field(default_factory=Counter)
    unfinished: bool = False
    """Whether it stopped for want of time, so that there may be more."""

    @property
    def complete(self) -> bool:
        """Whether everything that was due is delivered."""
        return not (self.failed or self.postponed or self.diagnoses or self.unfinished)


def plan(report: Report) -> set[int]:
    """Create the pending deliveries of a new report that policies want at once; return their interfaces' ids.

    Creating twice changes nothing. Runs in the caller's transaction.
    """
    wanted = ArchivePolicy.objects.filter(
        Q(dashboards__isnull=True) | Q(dashboards=report.dashboard), enabled=True, schedule__isnull=True
    )
    interfaces = set(wanted.values_list("interface_id", flat=True))
    Delivery.objects.bulk_create(
        [Delivery(report=report, interface_id=interface) for interface in interfaces], ignore_conflicts=True
    )
    return interfaces


def deliver_due(
    interface_id: int,
    *,
    ignore_pause: bool = False,
    seconds: float | None = None,
    on_backlog: Callable[[], None] = lambda: None,
) -> Drained:
    """Deliver what is due for an interface, until nothing is or the interface fails.

    Settings are read anew for each claim. A paused interface is left alone unless `ignore_pause`. With `seconds`,
    nothing new is claimed after that time, unless an upload outlasts it: `Drained.unfinished` says whether there may be
    more. `on_backlog` is called once if more is due than one claim holds. Failures that the catalogue knows are
    recorded, not raised.
    """
    return _Run(interface_id, ignore_pause=ignore_pause, seconds=seconds, on_backlog=on_backlog).drain()


def stop() -> None:
    """Let the runs of this process and of those forked from it end: what is being uploaded they finish, the rest they
    give back. For a worker that must end.
    """
    _stopping.set()


# A worker's processes inherit it from the one that they are forked from, which sets it for all of them.
_stopping = multiprocessing.Event()
_storages: dict[int, ArchiveStorage] = {}
_storages_lock = threading.Lock()


def storage_of(interface: S3Interface) -> ArchiveStorage:
    """Return this process's one storage of an interface: the same until the interface's settings change.

    Raises DeliveryError.
    """
    connection = interface.connection(max_uploads=settings.DELIVERY_CONCURRENCY)
    with _storages_lock:
        storage = _storages.get(interface.pk)
        if storage is None or storage.to != connection:
            storage = ArchiveStorage(connection)
            storage.prepare()
            _storages[interface.pk] = storage
    return storage


Result = Receipt | DeliveryError | None
"""Of one delivery. None: not tried, because the interface had failed for another one, or the run's time was over."""


@dataclass(frozen=True)
class _Source:
    """Where a report's bytes are stored already."""

    storage: ArchiveStorage
    key: str
    version_id: str


class _Turn:
    """The time of one run: when it is over, and whether the run goes on beside an upload that outlasts it.

    While `halt` is set, nothing new is begun; `begun` are the deliveries that a thread is uploading.
    """

    def __init__(self, seconds: float | None) -> None:
        self.halt = threading.Event()
        self.begun: set[int] = set()
        self._end = monotonic() + seconds if seconds is not None else float("inf")
        self._ended_at = 0.0
        self._outlasting: set[int] | None = None

    def ends(self) -> bool:
        """Halt if the time is over now; return whether it is."""
        if self.halt.is_set():
            return False
        outlasted = self._outlasting is not None and not self._outlasting & self.begun
        if not (monotonic() > self._end or outlasted or _stopping.is_set()):
            return False
        self._end, self._ended_at, self._outlasting = float("inf"), monotonic(), None
        self.halt.set()
        return True

    def goes_on(self) -> bool:
        """Go on if an upload outlasts the time: before that one is through, this process is not free anyway."""
        over = self._ended_at and monotonic() - self._ended_at > OUTLASTING_SECONDS
        if not over or _stopping.is_set():
            return False
        self._ended_at, self._outlasting = 0.0, set(self.begun)
        self.halt = threading.Event()
        return True

    def fail(self) -> None:
        """Halt for good."""
        self._ended_at = 0.0
        self.halt.set()


class _Run:
    """One run of `deliver_due()`: claims under one lease of its own, and keeps its pool of threads filled.

    A large report holds one thread, not the small ones behind it: as threads fall free, more is claimed. Outcomes
    are written together, but none waits longer than SETTLE_SECONDS.
    """

    def __init__(
        self, interface_id: int, *, ignore_pause: bool, seconds: float | None, on_backlog: Callable[[], None]
    ) -> None:
        self._interface_id, self._ignore_pause = interface_id, ignore_pause
        self._on_backlog: Callable[[], None] | None = on_backlog
        self._turn = _Turn(seconds)
        self._lease = uuid.uuid4()
        self._renewed = self._settled_at = monotonic()
        self._more, self._under_way, self._claimed_at = True, 0, monotonic()
        self._done: deque[tuple[Delivery, Result]] = deque()
        self._wanted, self._wake = 0, threading.Event()
        self._drained = Drained()

    def drain(self) -> Drained:
        """Claim, upload and settle until there is nothing left to claim and nothing under way."""
        with Pool(settings.DELIVERY_CONCURRENCY) as pool:
            try:
                while self._go_on(pool):
                    pool.adapt()
            except BaseException:
                self._turn.fail()  # what could no longer be recorded needs not be uploaded
                raise
        return self._drained

    def _go_on(self, pool: Pool) -> bool:
        """Do the next step; return whether there is more to do.

        Should the database's connection break, nothing new is begun, but what is being uploaded is still recorded, by
        a new connection, for as long as the lease holds.
        """
        try:
            more = self._advance(pool)
            self._renew()
        except (OperationalError, InterfaceError) as error:
            over = monotonic() - self._renewed > settings.DELIVERY_LEASE_SECONDS
            if over or not self._under_way or database.in_atomic_block:
                raise
            logger.warning(
                "The database's connection broke; %d deliveries wait to be recorded: %s", self._under_way, error
            )
            self._turn.fail()
            self._more, self._drained.unfinished = False, True
            database.close()
            sleep(RECONNECT_SECONDS)
            return True
        return more

    def _advance(self, pool: Pool) -> bool:
        """Claim if there is room, wait, settle what is done; return whether there is more to do."""
        self._mind_the_time()
        room = settings.DELIVERY_CONCURRENCY
        if self._more and self._under_way - len(self._done) < room:
            self._more = self._fill(pool)
        self._await(self._under_way - room + 1 if self._more else self._under_way)
        everything = len(self._done) == self._under_way
        if everything or len(self._done) >= BATCH or monotonic() - self._settled_at > SETTLE_SECONDS:
            self._settle()
        return self._more or bool(self._under_way)

    def _mind_the_time(self) -> None:
        if self._turn.ends():
            self._drained.unfinished = True  # what no thread has begun is given back
        elif self._turn.goes_on() or self._something_may_be_due():
            self._more = True

    def _something_may_be_due(self) -> bool:
        """Tell whether it is worth asking again for what has come due since the last claim found no more."""
        waiting = not self._more and self._under_way and not self._turn.halt.is_set()
        return bool(waiting) and monotonic() - self._claimed_at > SETTLE_SECONDS

    def _await(self, number: int) -> None:
        """Wait until so many uploads are done, or for a while. To wake up for each one would slow all threads down."""
        self._wanted = number
        self._wake.clear()
        if len(self._done) < number:
            self._wake.wait(WINDOW)

    def _work(
        self, interface: S3Interface, storage: ArchiveStorage, delivery: Delivery, sources: list["_Source"]
    ) -> None:
        """Upload one report, in a thread of the pool."""
        result: Result = DeliveryError("internal", "The thread ended")
        self._turn.begun.add(delivery.pk)
        try:
            result = _send(interface, storage, delivery, sources, self._turn.halt)
        finally:
            self._turn.begun.discard(delivery.pk)
            self._done.append((delivery, result))
            if len(self._done) >= self._wanted:
                self._wake.set()

    def _fill(self, pool: Pool) -> bool:
        """Claim and hand out what is due; return whether there may be more to claim."""
        if self._turn.halt.is_set():
            return False
        interface = S3Interface.objects.filter(pk=self._interface_id, enabled=True).first()
        if interface is None:
            return False
        paused = interface.paused_until is not None and interface.paused_until > timezone.now()
        if paused and not self._ignore_pause:
            return False
        try:
            storage = storage_of(interface)
        except DeliveryError as error:
            _pause(interface.pk, error)
            self._drained.diagnoses[error.diagnosis.code, error.detail] += 1
            return False
        self._claimed_at = monotonic()
        batch = _claim(interface, self._lease, BATCH)
        sources = _stored_elsewhere(batch)
        if len(batch) == BATCH and self._on_backlog:
            self._on_backlog()
            self._on_backlog = None
        self._under_way += len(batch)
        pool.submit(
            partial(self._work, interface, storage, delivery, sources.get(delivery.report_id, [])) for delivery in batch
        )
        return bool(batch)

    def _settle(self) -> None:
        self._settled_at = monotonic()
        finished = [self._done[number] for number in range(len(self._done))]
        if not finished:
            return
        failure = _settle(self._lease, finished, self._drained)
        for _ in finished:  # not before: should the database fail, they are still to be settled
            self._done.popleft()
        self._under_way -= len(finished)
        if failure:
            self._turn.fail()
            _pause(self._interface_id, failure)
        elif any(isinstance(result, Receipt) for _, result in finished):
            queue.resume(self._interface_id)
        receipts = [result for _, result in finished if isinstance(result, Receipt)]
        seen = {}
        if any(receipt.condition is Condition.REFUSED for receipt in receipts):
            seen["condition"] = "refused"
        if any(receipt.sha256_refused for receipt in receipts):
            seen["sha256"] = "refused"
        if seen:
            _remember(self._interface_id, **seen)

    def _renew(self) -> None:
        """Keep the lease of what is under way, well before it runs out."""
        if self._under_way and monotonic() - self._renewed > settings.DELIVERY_LEASE_SECONDS / 3:
            Delivery.objects.filter(lease=self._lease, state=State.SENDING).update(
                leased_until=_lease_end(timezone.now())
            )
            self._renewed = monotonic()


def _claim(interface: S3Interface, lease: uuid.UUID, limit: int) -> list[Delivery]:
    """Lease up to `limit` of what is due, fresh reports first, then the longest due, each row to one claimer only."""
    now = timezone.now()
    of_interface = Delivery.objects.filter(interface=interface)
    with transaction.atomic():
        of_interface.filter(state=State.SENDING, leased_until__lt=now).update(
            state=State.PENDING, lease=None, leased_until=None
        )
        due = of_interface.filter(state=State.PENDING, due_at__lte=now).order_by("priority", "due_at")
        if database.features.has_select_for_update_skip_locked:
            due = due.select_for_update(skip_locked=True)
        claimed = list(due.values_list("pk", flat=True)[:limit])
        Delivery.objects.filter(pk__in=claimed).update(state=State.SENDING, lease=lease, leased_until=_lease_end(now))
    if not claimed:
        return []
    return list(
        Delivery.objects.filter(pk__in=claimed).select_related("report__dashboard").order_by("priority", "due_at")
    )


def _stored_elsewhere(batch: list[Delivery]) -> dict[uuid.UUID, list[_Source]]:
    """Return, for those whose local copy housekeeping has removed, where else their bytes are."""
    gone = [delivery.report_id for delivery in batch if not delivery.report.file]
    sources: dict[uuid.UUID, list[_Source]] = defaultdict(list)
    for row in Delivery.objects.filter(report__in=gone, state=State.DELIVERED).select_related("interface"):
        with suppress(DeliveryError):
            sources[row.report_id].append(_Source(storage_of(row.interface), row.object_key, row.version_id))
    return sources


def _lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)


# Sending: what runs in the threads of the pool.


def _send(
    interface: S3Interface,
    storage: ArchiveStorage,
    delivery: Delivery,
    sources: list[_Source],
    halt: threading.Event,
) -> Result:
    if halt.is_set():
        return None
    try:
        with _stored_copy(delivery.report, sources) if sources else _local_copy(delivery.report) as body:
            return _put(interface, storage, delivery.report, body)
    except DeliveryError as error:
        if error.diagnosis.scope is Scope.INTERFACE:
            halt.set()
        return error
    except Exception as error:
        logger.exception("Delivery %s stumbled over a bug", delivery.pk)
        return DeliveryError("internal", type(error).__name__)


def _put(interface: S3Interface, storage: ArchiveStorage, report: Report, body: BinaryIO) -> Receipt:
    slug = report.dashboard.slug
    upload = Upload(
        key=object_key(
            prefix=interface.key_prefix,
            dashboard=slug,
            rendered_at=report.rendered_at,
            sha256=report.sha256,
            suffix=report.suffix,
        ),
        size=report.size,
        sha256=report.sha256,
        md5=report.md5,
        content_type=report.content_type,
        content_disposition=content_disposition(report.filename),
        metadata=object_metadata(
            report_id=str(report.pk),
            dashboard=slug,
            title=report.dashboard.title,
            rendered_at=report.rendered_at,
            ingested_at=report.ingested_at,
            sha256=report.sha256,
            md5=report.md5,
            filename=report.filename,
        ),
    )
    try:
        return storage.put(upload, body)
    except DeliveryError as error:
        if error.diagnosis.code == "digest_mismatch":
            _check_unchanged(report, body)
        raise


@contextmanager
def _local_copy(report: Report) -> Iterator[BinaryIO]:
    """Open the local copy. One of another length is refused here: no store could take it for the right one."""
    path = report.local_path
    try:
        body = path.open("rb")
    except FileNotFoundError as error:
        raise DeliveryError("local_copy_missing", path.name) from error
    except OSError as error:
        raise DeliveryError("local_copy_unreadable", f"{path.name}: {error.strerror}") from error
    with body:
        size = os.fstat(body.fileno()).st_size
        if size != report.size:
            raise DeliveryError("local_copy_changed", f"{size} bytes; {report.size} came in")
        yield body


@contextmanager
def _stored_copy(report: Report, sources: list[_Source]) -> Iterator[BinaryIO]:
    """Open what an earlier delivery stored, fetched to the local disk for so long and compared with what came in."""
    problem = ""
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
        for source in sources:
            body.seek(0)
            body.truncate()
            try:
                check_space(report.size)
                for chunk in source.storage.stream(source.key, source.version_id, size=report.size):
                    body.write(chunk)
                _check_unchanged(report, body)
            except DeliveryError as error:
                problem = f"Removed by housekeeping; not readable as {source.key}: {error}"
                continue
            except (OSError, IngestError) as error:
                raise DeliveryError("local_copy_unreadable", f"No room to fetch it: {error}") from error
            yield body
            return
        raise DeliveryError("local_copy_missing", problem)


def _check_unchanged(report: Report, body: BinaryIO) -> None:
    """Raise DeliveryError if it is the local copy that changed, not the transfer that broke."""
    body.seek(0)
    if hashlib.file_digest(cast("BufferedReader", body), "sha256").hexdigest() != report.sha256:
        raise DeliveryError("local_copy_changed", f"Its SHA-256 is no longer {report.sha256}")


# Outcomes.

_OUTCOME_FIELDS = [
    "state", "attempts", "due_at", "leased_until", "lease", "diagnosis", "detail", "object_key", "version_id",
    "etag", "sha256", "size", "integrity", "retain_until", "delivered_at",
]  # fmt: skip


def _settle(lease: uuid.UUID, settled: list[tuple[Delivery, Result]], drained: Drained) -> DeliveryError | None:
    """Write outcomes and count them; return the failure that concerns the whole interface, if there is one.

    Rows whose lease was lost meanwhile belong to somebody else and are left alone: if the upload succeeded,
    that somebody's attempt finds the object and makes out the receipt.
    """
    got_through = any(isinstance(result, Receipt) for _, result in settled)
    outcomes = [_outcome(delivery, result, got_through=got_through) for delivery, result in settled]
    written = _write([each.delivery for each in outcomes], lease)
    if written < len(settled):
        logger.warning("%d outcomes came after their lease had run out", len(settled) - written)
    failure = None
    for each in outcomes:
        drained.delivered += each.delivery.state == State.DELIVERED
        drained.failed += each.delivery.state == State.FAILED
        drained.postponed += each.delivery.state == State.PENDING
        if each.failure:
            logger.warning(
                "Delivery %s of %s is %s: %s", each.delivery.pk, each.delivery.report, each.delivery.state, each.failure
            )
            drained.diagnoses[each.failure.diagnosis.code, each.failure.detail] += 1
            failure = each.failure if each.of_interface else failure
    return failure


@dataclass(frozen=True)
class _Outcome:
    delivery: Delivery
    failure: DeliveryError | None = None
    of_interface: bool = False


def _outcome(delivery: Delivery, result: Result, *, got_through: bool) -> _Outcome:
    """Return what is to be written. Asked again, because it couldn't be, it returns the same."""
    delivery.lease = delivery.leased_until = None
    if isinstance(result, Receipt):
        _record_receipt(delivery, result)
        return _Outcome(delivery)
    delivery.state = State.PENDING
    if result is None:
        return _Outcome(delivery)
    scope = result.diagnosis.scope
    if scope is Scope.EITHER:
        scope = Scope.REPORT if got_through else Scope.INTERFACE
    delivery = copy(delivery)  # on which the attempt is counted
    _record_failure(delivery, result, scope)
    return _Outcome(delivery, result, scope is Scope.INTERFACE)


def _write(outcomes: list[Delivery], lease: uuid.UUID) -> int:
    """Write the outcomes of those rows that still bear the lease, by one statement; return how many there are.

    As an insert whose every row is there already, because Django puts an update of many rows together from one CASE for
    each field and row, which took three times as long as the uploads.
    """
    with transaction.atomic():
        held = Delivery.objects.filter(pk__in=[each.pk for each in outcomes], lease=lease, state=State.SENDING)
        if database.features.has_select_for_update:
            held = held.select_for_update()
        keys = set(held.order_by().values_list("pk", flat=True))
        rows = [each for each in outcomes if each.pk in keys]
        Delivery.objects.bulk_create(rows, update_conflicts=True, unique_fields=["id"], update_fields=_OUTCOME_FIELDS)
    return len(rows)


def _record_receipt(delivery: Delivery, receipt: Receipt) -> None:
    delivery.state = State.DELIVERED
    delivery.diagnosis = delivery.detail = ""
    delivery.object_key = receipt.object_key
    delivery.version_id = receipt.version_id
    delivery.etag = receipt.etag
    delivery.sha256 = receipt.sha256
    delivery.size = receipt.size
    delivery.integrity = receipt.integrity
    delivery.retain_until = receipt.retain_until
    delivery.delivered_at = timezone.now()


def _record_failure(delivery: Delivery, error: DeliveryError, scope: Scope) -> None:
    delivery.diagnosis, delivery.detail = error.diagnosis.code, error.detail
    if scope is Scope.INTERFACE:
        return  # no fault of this report: it is not charged, and due again as soon as the interface is
    delivery.attempts += 1
    if error.diagnosis.retryable:
        delivery.due_at = timezone.now() + _wait(delivery.attempts, error)
    else:
        delivery.state = State.FAILED


def _pause(interface_id: int, error: DeliveryError) -> None:
    """Leave a failed interface alone for a while: the longer, the more often it failed in a row."""
    interface = S3Interface.objects.get(pk=interface_id)
    failures = interface.failures + 1
    wait = _wait(failures, error)
    if error.diagnosis.scope is Scope.EITHER:
        wait = min(wait, timedelta(seconds=PROBE_SECONDS))
    S3Interface.objects.filter(pk=interface_id).update(
        failures=failures,
        paused_until=timezone.now() + wait,
        diagnosis=error.diagnosis.code,
        detail=error.detail,
    )
    logger.warning("Interface %s is paused after failure %d: %s", interface.name, failures, error)


def _remember(interface_id: int, **capabilities: str) -> None:
    """Keep what a store was seen to do, so that the next request goes by it."""
    with transaction.atomic():
        interface = S3Interface.objects.select_for_update().get(pk=interface_id)
        S3Interface.objects.filter(pk=interface_id).update(capabilities=interface.capabilities | capabilities)


def _wait(failures: int, error: DeliveryError) -> timedelta:
    """Return how long to wait: at least as long as the store asked for, within the bound of all waits."""
    return max(_backoff(failures), timedelta(seconds=min(error.retry_after, settings.DELIVERY_RETRY_SECONDS)))


def _backoff(failures: int) -> timedelta:
    """Return a random wait below a bound that doubles with each failure, so that many waiting ones spread out."""
    bound = min(settings.DELIVERY_RETRY_SECONDS, BACKOFF_BASE * 2 ** min(failures, 20))
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311
