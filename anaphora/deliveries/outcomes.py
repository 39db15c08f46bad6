"""Recording what became of deliveries: receipts, retries with backoff, failures, and the pause of an interface."""

import logging
import random
import uuid
from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from anaphora.deliveries import irregularities, queue, signals
from anaphora.deliveries.destinations import Condition, Receipt
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.sending import Result

logger = logging.getLogger(__name__)

BACKOFF_BASE = 5
"""Seconds. The first retry waits for up to twice as long; each further one for up to twice as long as the last."""

PROBE_SECONDS = 60
"""The longest pause after a failure that may concern one report alone. The next report shows, and must not wait."""


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

    def count(self, error: DeliveryError) -> None:
        """Count one failure."""
        self.diagnoses[error.diagnosis.code, error.detail] += 1


def settle(lease: uuid.UUID, finished: list[tuple[Delivery, Result]], drained: Drained) -> DeliveryError | None:
    """Write outcomes and count them; return the failure of the whole interface, if there is one.

    Rows whose lease was lost meanwhile are another process's and are left alone: if the upload succeeded, that
    process's attempt finds the object and builds the receipt.
    """
    delivered = any(isinstance(result, Receipt) for _, result in finished)
    outcomes = [_outcome(delivery, result, others_delivered=delivered) for delivery, result in finished]
    written = _write([each.delivery for each in outcomes], lease)
    if len(written) < len(finished):
        logger.warning("%d outcomes were too late: their lease had run out", len(finished) - len(written))
    failure = None
    failures: Counter[str] = Counter()
    for each in outcomes:
        drained.delivered += each.delivery.state == State.DELIVERED
        drained.failed += each.delivery.state == State.FAILED
        drained.postponed += each.delivery.state == State.PENDING
        if each.failure:
            logger.warning(
                "Delivery %s of %s is %s: %s", each.delivery.pk, each.delivery.report, each.delivery.state, each.failure
            )
            drained.count(each.failure)
            failures[each.failure.diagnosis.code] += 1
            failure = each.failure if each.of_interface else failure
    if finished:
        signals.outcomes_written.send_robust(
            None, interface_id=finished[0][0].interface_id, outcomes=written, failures=failures
        )
    return failure


def update_interface(interface_id: int, finished: list[tuple[Delivery, Result]], failure: DeliveryError | None) -> None:
    """Pause the interface after a failure of its own, or end its pause; record what its store refused."""
    receipts = [result for _, result in finished if isinstance(result, Receipt)]
    if failure:
        pause(interface_id, failure)
    elif receipts:
        queue.resume(interface_id)
    _record_capabilities(interface_id, receipts)


def pause(interface_id: int, error: DeliveryError) -> None:
    """Leave a failed interface alone for a while: the longer, the more often it failed in a row."""
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


_OUTCOME_FIELDS = [
    "state", "attempts", "due_at", "leased_until", "lease", "diagnosis", "detail", "object_key", "version_id",
    "etag", "sha256", "size", "integrity", "retain_until", "delivered_at",
]  # fmt: skip


@dataclass(frozen=True)
class _Outcome:
    delivery: Delivery
    failure: DeliveryError | None = None
    of_interface: bool = False


def _outcome(delivery: Delivery, result: Result, *, others_delivered: bool) -> _Outcome:
    """Return what is to be written. Called again, because writing failed, it returns the same."""
    delivery.lease = delivery.leased_until = None
    if isinstance(result, Receipt):
        _set_receipt(delivery, result)
        return _Outcome(delivery)
    delivery.state = State.PENDING
    if result is None:
        return _Outcome(delivery)
    scope = result.diagnosis.scope
    if scope is FailureScope.EITHER:
        scope = FailureScope.REPORT if others_delivered else FailureScope.INTERFACE
    delivery = copy(delivery)  # on which the attempt is counted
    _set_failure(delivery, result, scope)
    return _Outcome(delivery, result, scope is FailureScope.INTERFACE)


def _write(outcomes: list[Delivery], lease: uuid.UUID) -> list[Delivery]:
    """Write the outcomes of those rows that still have the lease, by one statement; return them.

    As an insert whose every row exists already, because Django builds an update of many rows from one CASE for
    each field and row, which took three times as long as the uploads.
    """
    with transaction.atomic():
        held = Delivery.objects.filter(pk__in=[each.pk for each in outcomes], lease=lease, state=State.SENDING)
        if database.features.has_select_for_update:
            held = held.select_for_update()
        keys = set(held.order_by().values_list("pk", flat=True))
        rows = [each for each in outcomes if each.pk in keys]
        Delivery.objects.bulk_create(rows, update_conflicts=True, unique_fields=["id"], update_fields=_OUTCOME_FIELDS)
        if failed := [each for each in rows if each.state == State.FAILED]:
            irregularities.record_deliveries(irregularities.FAILED, failed)
    return rows


def _set_receipt(delivery: Delivery, receipt: Receipt) -> None:
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


def _set_failure(delivery: Delivery, error: DeliveryError, scope: FailureScope) -> None:
    delivery.diagnosis, delivery.detail = error.diagnosis.code, error.detail
    if scope is FailureScope.INTERFACE:
        return  # not this report's fault: no attempt is counted, and it is due again as soon as the interface is
    delivery.attempts += 1
    if error.diagnosis.retryable:
        delivery.due_at = timezone.now() + _wait(delivery.attempts, error)
    else:
        delivery.state = State.FAILED


def _record_capabilities(interface_id: int, receipts: list[Receipt]) -> None:
    """Record what the store refused, so that the next request does without it."""
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
    """Return how long to wait: at least as long as the store asked for, within the bound of all waits."""
    return max(_backoff(failures), timedelta(seconds=min(error.retry_after, settings.DELIVERY_RETRY_SECONDS)))


def _backoff(failures: int) -> timedelta:
    """Return a random wait below a bound that doubles with each failure, so that many retries spread out."""
    bound = min(settings.DELIVERY_RETRY_SECONDS, BACKOFF_BASE * 2 ** min(failures, 20))
    return timedelta(seconds=random.uniform(0, bound))  # noqa: S311
