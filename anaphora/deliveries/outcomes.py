"""Records the outcomes of deliveries: receipts, retries with backoff, failures, and the pause of an interface."""

import logging
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from anaphora.bulk_rows import update_rows
from anaphora.deliveries import irregularities, queue, signals
from anaphora.deliveries.destinations import Condition, Receipt
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.queue import Claimed
from anaphora.deliveries.sending import Result

logger = logging.getLogger(__name__)

BACKOFF_BASE = 5
"""Seconds. The first retry waits up to twice as long, and each further one up to twice as long as the one before."""

PROBE_SECONDS = 60
"""The longest pause after a failure that may concern a single report. The next report will show, and should not wait
long."""


@dataclass
class Drained:
    """The result of one run of `deliver_due()`. `diagnoses` counts the failures by (code, detail)."""

    delivered: int = 0
    failed: int = 0
    postponed: int = 0
    diagnoses: Counter[tuple[str, str]] = field(default_factory=Counter)
    unfinished: bool = False
    """Whether the run's time was over, so that more deliveries may be due."""

    @property
    def complete(self) -> bool:
        """Whether everything that was due is delivered."""
        return not (self.failed or self.postponed or self.diagnoses or self.unfinished)

    def count(self, error: DeliveryError) -> None:
        """Count one failure."""
        self.diagnoses[error.diagnosis.code, error.detail] += 1


@dataclass(frozen=True, slots=True)
class Finished:
    """A delivery that a thread has processed, with the result and the duration."""

    delivery: Claimed
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The values to write to a delivery's row."""

    delivery: Claimed
    state: State
    attempts: int
    due_at: datetime
    diagnosis: str
    detail: str
    upload_seconds: float
    receipt: Receipt | None = None
    failure: DeliveryError | None = None
    of_interface: bool = False
    """Whether the failure concerns the whole interface."""

    @property
    def size(self) -> int:
        """Bytes stored."""
        return self.receipt.size if self.receipt else 0


def settle(lease: uuid.UUID, finished: list[Finished], drained: Drained) -> DeliveryError | None:
    """Write outcomes and count them; return the failure of the whole interface, if there is one.

    Rows whose lease has run out belong to another process by now and are not changed: if the upload succeeded, the
    attempt of that process finds the object and builds the receipt.
    """
    delivered = any(isinstance(each.result, Receipt) for each in finished)
    outcomes = [_outcome(each, others_delivered=delivered) for each in finished]
    written = _write(outcomes, lease)
    if len(written) < len(finished):
        logger.warning("%d outcomes were too late: their lease had run out", len(finished) - len(written))
    failure = None
    failures: Counter[str] = Counter()
    for each in outcomes:
        drained.delivered += each.state == State.DELIVERED
        drained.failed += each.state == State.FAILED
        drained.postponed += each.state == State.PENDING
        if each.failure:
            logger.warning(
                "Delivery %s of %s is %s: %s", each.delivery.pk, each.delivery.description, each.state, each.failure
            )
            drained.count(each.failure)
            failures[each.failure.diagnosis.code] += 1
            failure = each.failure if each.of_interface else failure
    if finished:
        signals.outcomes_written.send_robust(
            None, interface_id=finished[0].delivery.interface_id, outcomes=written, failures=failures
        )
    return failure


def update_interface(interface_id: int, finished: list[Finished], failure: DeliveryError | None) -> None:
    """Pause the interface after a failure that concerns it, or end its pause; record the headers its store refused."""
    receipts = [each.result for each in finished if isinstance(each.result, Receipt)]
    if failure:
        pause(interface_id, failure)
    elif receipts:
        queue.resume(interface_id)
    _record_capabilities(interface_id, receipts)


def pause(interface_id: int, error: DeliveryError) -> None:
    """Pause a failed interface. The pause grows with the number of failures in a row."""
    interface = Interface.objects.get(pk=interface_id)
    failures = interface.failures + 1
    wait = _wait(failures, error)
    if error.diagnosis.scope is FailureScope.EITHER:
        wait = min(wait, timedelta(seconds=PROBE_SECONDS))
    Interface.objects.filter(pk=interface_id).update(
        failures=failures,
        paused_until=timezone.now() + wait,
        diagnosis=error.diagnosis.code,
        detail=error.detail,
    )
    logger.warning("Interface %s is paused after failure %d: %s", interface.name, failures, error)


def _outcome(finished: Finished, *, others_delivered: bool) -> Outcome:
    claimed, result = finished.delivery, finished.result
    kept = Outcome(
        claimed,
        State.PENDING,
        claimed.attempts,
        claimed.due_at,
        claimed.diagnosis,
        claimed.detail,
        finished.seconds,
    )
    if isinstance(result, Receipt):
        return replace(kept, state=State.DELIVERED, diagnosis="", detail="", receipt=result)
    if result is None:
        return kept
    scope = result.diagnosis.scope
    if scope is FailureScope.EITHER:
        scope = FailureScope.REPORT if others_delivered else FailureScope.INTERFACE
    kept = replace(kept, diagnosis=result.diagnosis.code, detail=result.detail, failure=result)
    if scope is FailureScope.INTERFACE:
        # Not this report's fault: no attempt is counted, and the delivery is due again when the pause ends.
        return replace(kept, of_interface=True)
    attempts = claimed.attempts + 1
    if result.diagnosis.retryable:
        return replace(kept, attempts=attempts, due_at=timezone.now() + _wait(attempts, result))
    return replace(kept, attempts=attempts, state=State.FAILED)


def _write(outcomes: list[Outcome], lease: uuid.UUID) -> list[Outcome]:
    """Write the outcomes of those rows that still have the lease; return them."""
    with transaction.atomic():
        held = Delivery.objects.filter(pk__in=[each.delivery.pk for each in outcomes], lease=lease, state=State.SENDING)
        if database.features.has_select_for_update:
            held = held.select_for_update()
        keys = set(held.order_by().values_list("pk", flat=True))
        rows = [each for each in outcomes if each.delivery.pk in keys]
        now = timezone.now()
        update_rows(Delivery, [_receipt(each, each.receipt, now) for each in rows if each.receipt])
        update_rows(Delivery, [_not_delivered(each) for each in rows if not each.receipt])
        if failed := [_undelivered(each) for each in rows if each.state == State.FAILED]:
            irregularities.record_deliveries(irregularities.FAILED, failed)
    return rows


def _not_delivered(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.delivery.pk,
        "state": outcome.state,
        "lease": None,
        "leased_until": None,
        "attempts": outcome.attempts,
        "due_at": outcome.due_at,
        "diagnosis": outcome.diagnosis,
        "detail": outcome.detail,
    }


def _receipt(outcome: Outcome, receipt: Receipt, now: datetime) -> dict[str, Any]:
    return {
        "id": outcome.delivery.pk,
        "state": State.DELIVERED,
        "lease": None,
        "leased_until": None,
        "diagnosis": "",
        "detail": "",
        "object_key": receipt.object_key,
        "version_id": receipt.version_id,
        "etag": receipt.etag,
        "sha256": receipt.sha256,
        "size": receipt.size,
        "integrity": receipt.integrity,
        "retain_until": receipt.retain_until,
        "delivered_at": now,
    }


def _undelivered(outcome: Outcome) -> irregularities.Undelivered:
    claimed = outcome.delivery
    return irregularities.Undelivered(
        claimed.interface_id, claimed.report_id, claimed.dashboard, claimed.sha256, outcome.diagnosis
    )


def _record_capabilities(interface_id: int, receipts: list[Receipt]) -> None:
    """Record which request headers the store refused, so that the next request omits them."""
    refused = {}
    if any(receipt.condition is Condition.REFUSED for receipt in receipts):
        refused["condition"] = "refused"
    if any(receipt.sha256_refused for receipt in receipts):
        refused["sha256"] = "refused"
    if refused:
        with transaction.atomic():
            interface = Interface.objects.select_for_update().get(pk=interface_id)
            Interface.objects.filter(pk=interface_id).update(capabilities=interface.capabilities | refused)


def _wait(failures: int, error: DeliveryError) -> timedelta:
    """Return how long to wait: at least as long as the store asked for, but at most DELIVERY_RETRY_SECONDS."""
    return max(_backoff(failures), timedelta(seconds=min(error.retry_after, settings.DELIVERY_RETRY_SECONDS)))


def _backoff(failures: int) -> timedelta:
    """Return a random wait below a bound that doubles with each failure, so that many retries spread out."""
    bound = min(settings.DELIVERY_RETRY_SECONDS, BACKOFF_BASE * 2 ** min(failures, 20))
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311
