"""Plan and deliver: the one path of every report into a bucket.

The database is the queue. `plan()` makes pending deliveries; `deliver_due()` claims them under a lease, uploads
them with a thread pool over one cached client, writes the outcomes in bulk and goes on until nothing is due. Any
number of processes may run it at the same time, and any of them may die at any moment: a lease that ran out makes
its deliveries pending again, and the conditional write makes a repeated upload harmless.

No thread of the pool touches the database.
"""

import hashlib
import logging
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BufferedReader
from time import monotonic

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from anaphora.reports.models import Report
from delivery_s3 import deliveries
from delivery_s3.diagnosis import DeliveryError, Scope
from delivery_s3.keys import content_disposition, object_key, object_metadata
from delivery_s3.models import ArchivePolicy, Delivery, S3Interface, State
from delivery_s3.storage import ArchiveStorage, Condition, Receipt, Upload

logger = logging.getLogger(__name__)

BATCH = 50
"""Deliveries claimed at once: enough to make the database's share small, few enough to lose little with one."""

SETTLE_SECONDS = 2.0
"""How long an outcome may wait for others before it is written."""

BACKOFF_BASE = 5
"""Seconds. The first retry waits for up to twice as long; each further one for up to twice as long as the last."""


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
    nothing new is claimed after that time: `Drained.unfinished` says whether there may be more. `on_backlog` is called
    once if more is due than one claim holds. Failures that the catalogue knows are recorded, not raised.
    """
    return _Run(interface_id, ignore_pause=ignore_pause, seconds=seconds, on_backlog=on_backlog).drain()


def stop() -> None:
    """Let the runs of this process claim nothing new; what they hold they finish. For a process that must end."""
    _stopping.set()


_stopping = threading.Event()
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
            _ = storage.client  # made here once, not by each thread of the pool at the same time
            _storages[interface.pk] = storage
    return storage


Result = Receipt | DeliveryError | None
"""Of one delivery. None: not tried, because the interface had failed for another one before."""


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
        self._end = monotonic() + seconds if seconds is not None else float("inf")
        self._lease = uuid.uuid4()
        self._renewed = self._settled_at = monotonic()
        self._waiting: dict[Future[Result], Delivery] = {}
        self._halt = threading.Event()
        self._drained = Drained()

    def drain(self) -> Drained:
        """Claim, upload and settle until there is nothing left to claim and nothing under way."""
        finished: list[tuple[Delivery, Result]] = []
        with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "upload") as pool:
            more = True
            while True:
                if more and len(self._waiting) < settings.DELIVERY_CONCURRENCY:
                    more = self._fill(pool)
                if self._waiting:
                    done, _ = wait(self._waiting, timeout=SETTLE_SECONDS / 4, return_when=FIRST_COMPLETED)
                    finished += [(self._waiting.pop(future), future.result()) for future in done]
                overdue = monotonic() - self._settled_at > SETTLE_SECONDS
                if finished and (overdue or len(finished) >= BATCH or not self._waiting):
                    self._settle(finished)
                    finished = []
                if not self._waiting and not more:
                    return self._drained
                self._renew()

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Claim and hand out what is due; return whether there may be more to claim."""
        if self._halt.is_set():
            return False
        if monotonic() > self._end or _stopping.is_set():
            self._drained.unfinished = True
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
        batch = _claim(interface, self._lease, BATCH - len(self._waiting))
        if len(batch) == BATCH and self._on_backlog:
            self._on_backlog()
            self._on_backlog = None
        for delivery in batch:
            self._waiting[pool.submit(_send, interface, storage, delivery, self._halt)] = delivery
        return bool(batch)

    def _settle(self, finished: list[tuple[Delivery, Result]]) -> None:
        self._settled_at = monotonic()
        failure = _settle(self._lease, finished, self._drained)
        if failure:
            _pause(self._interface_id, failure)
        elif any(isinstance(result, Receipt) for _, result in finished):
            deliveries.resume(self._interface_id)
        refused = {result.condition for _, result in finished if isinstance(result, Receipt)}
        if Condition.REFUSED in refused:
            _remember(self._interface_id, condition="refused")

    def _renew(self) -> None:
        """Keep the lease of what is under way, well before it runs out."""
        if self._waiting and monotonic() - self._renewed > settings.DELIVERY_LEASE_SECONDS / 3:
            Delivery.objects.filter(lease=self._lease, state=State.SENDING).update(
                leased_until=_lease_end(timezone.now())
            )
            self._renewed = monotonic()


def _claim(interface: S3Interface, lease: uuid.UUID, limit: int) -> list[Delivery]:
    """Lease up to `limit` of what is due, the longest due first, each row to one claimer only."""
    now = timezone.now()
    of_interface = Delivery.objects.filter(interface=interface)
    with transaction.atomic():
        of_interface.filter(state=State.SENDING, leased_until__lt=now).update(
            state=State.PENDING, lease=None, leased_until=None
        )
        due = of_interface.filter(state=State.PENDING, due_at__lte=now).order_by("due_at")
        if database.features.has_select_for_update_skip_locked:
            due = due.select_for_update(skip_locked=True)
        claimed = list(due.values_list("pk", flat=True)[:limit])
        Delivery.objects.filter(pk__in=claimed).update(state=State.SENDING, lease=lease, leased_until=_lease_end(now))
    if not claimed:
        return []
    return list(Delivery.objects.filter(pk__in=claimed).select_related("report__dashboard").order_by("due_at"))


def _lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.DELIVERY_LEASE_SECONDS)


# Sending: what runs in the threads of the pool.


def _send(interface: S3Interface, storage: ArchiveStorage, delivery: Delivery, halt: threading.Event) -> Result:
    if halt.is_set():
        return None
    try:
        with _local_copy(delivery.report) as body:
            return _put(interface, storage, delivery.report, body)
    except DeliveryError as error:
        if error.diagnosis.scope is Scope.INTERFACE:
            halt.set()
        return error
    except Exception as error:
        logger.exception("Delivery %s stumbled over a bug", delivery.pk)
        return DeliveryError("internal", type(error).__name__)


def _put(interface: S3Interface, storage: ArchiveStorage, report: Report, body: BufferedReader) -> Receipt:
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
            rendered_at=report.rendered_at,
            sha256=report.sha256,
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
def _local_copy(report: Report) -> Iterator[BufferedReader]:
    """Open the local copy. One of another length is refused here: no store could take it for the right one."""
    try:
        body = report.local_path.open("rb")
    except FileNotFoundError as error:
        raise DeliveryError("local_copy_missing", report.local_path.name) from error
    except OSError as error:
        raise DeliveryError("local_copy_unreadable", f"{report.local_path.name}: {error.strerror}") from error
    with body:
        size = report.local_path.stat().st_size
        if size != report.size:
            raise DeliveryError("local_copy_changed", f"{size} bytes; {report.size} came in")
        yield body


def _check_unchanged(report: Report, body: BufferedReader) -> None:
    """Raise DeliveryError if it is the local copy that changed, not the transfer that broke."""
    body.seek(0)
    if hashlib.file_digest(body, "sha256").hexdigest() != report.sha256:
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
    failure = None
    for delivery, result in settled:
        delivery.lease = delivery.leased_until = None
        if isinstance(result, Receipt):
            _record_receipt(delivery, result)
            drained.delivered += 1
            continue
        delivery.state = State.PENDING
        if result is None:
            drained.postponed += 1
            continue
        _record_failure(delivery, result)
        logger.warning("Delivery %s of %s is %s: %s", delivery.pk, delivery.report, delivery.state, result)
        drained.diagnoses[result.diagnosis.code, result.detail] += 1
        if delivery.state == State.FAILED:
            drained.failed += 1
        else:
            drained.postponed += 1
        if result.diagnosis.scope is Scope.INTERFACE:
            failure = result
    written = Delivery.objects.filter(lease=lease, state=State.SENDING).bulk_update(
        [delivery for delivery, _ in settled], _OUTCOME_FIELDS
    )
    if written < len(settled):
        logger.warning("%d outcomes came after their lease had run out", len(settled) - written)
    return failure


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


def _record_failure(delivery: Delivery, error: DeliveryError) -> None:
    delivery.diagnosis, delivery.detail = error.diagnosis.code, error.detail
    if error.diagnosis.scope is Scope.INTERFACE:
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
    S3Interface.objects.filter(pk=interface_id).update(
        failures=failures,
        paused_until=timezone.now() + _wait(failures, error),
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
