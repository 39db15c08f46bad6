"""The Celery tasks of deliveries. The message of a delivery contains only an interface's id."""

import logging
from functools import partial
from time import monotonic
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down
from django.utils import timezone

from anaphora.deliveries import engine, heartbeat, housekeeping, manifests, policies, protection, queue
from anaphora.deliveries.models import ArchivePolicy

logger = logging.getLogger(__name__)


TURN_SECONDS = 10
"""How long one task claims deliveries. Then it gives back those not started and sends itself a new message, behind
those of other interfaces, so that a long backlog or a slow store does not delay them."""


@worker_shutting_down.connect
def end_turns(**kwargs: Any) -> None:
    """On SIGTERM, let the worker end as soon as the uploads in progress are finished."""
    engine.stop()


@shared_task(name="deliveries.deliver_due")
def deliver_due(interface_id: int) -> None:
    """Deliver what is due for an interface, for one turn. If there is a backlog, wake another worker."""
    queue.record_wakeup_received(interface_id)
    ask = partial(request_delivery, interface_id)
    if engine.deliver_due(interface_id, seconds=TURN_SECONDS, on_backlog=ask).unfinished:
        ask()


@shared_task(name="deliveries.sweep")
def sweep() -> None:
    """Send messages for deliveries that became due without one: retries, ended pauses, dead workers, lost messages."""
    queue.reset_future_timestamps()
    policies.run_scheduled(timezone.now())
    for interface_id in queue.interfaces_with_due_work():
        _send(interface_id)


@shared_task(name="deliveries.backfill")
def backfill(policy_id: int) -> None:
    """Backfill a policy, for one turn at a time; the deliveries come after fresh ones."""
    policy = ArchivePolicy.objects.filter(pk=policy_id).first()
    if policy is None:
        return
    end = monotonic() + TURN_SECONDS
    for _ in policies.backfill(policy):
        request_delivery(policy.interface_id)
        if monotonic() > end:
            backfill.delay(policy_id)
            return


@shared_task(name="deliveries.write_manifests")
def write_manifests() -> None:
    """Write the manifests of the days that are over, for one turn at a time."""
    if manifests.write_due(timezone.now(), TURN_SECONDS):
        write_manifests.delay()


@shared_task(name="deliveries.check_immutability")
def check_immutability() -> None:
    """Run the immutability check of each interface."""
    protection.check_all(timezone.now())


@shared_task(name="deliveries.housekeeping")
def run_housekeeping() -> None:
    """Remove local copies that are safely archived, and old heartbeats."""
    heartbeat.delete_old(timezone.now())
    housekeeping.run_housekeeping(timezone.now())


def request_delivery(interface_id: int) -> None:
    """Send a worker a message to deliver what is due, unless one is already on its way.

    There is one message for many reports, so a busy interface does not delay others.
    """
    if queue.record_wakeup_sent(interface_id):
        _send(interface_id)


def _send(interface_id: int) -> None:
    """Send the message. If the broker fails, the sweep sends it later."""
    try:
        deliver_due.delay(interface_id)
    except Exception as error:  # each kind of broker has its own errors, such as a refused password
        logger.warning("The broker did not accept a message (%s); the delivery waits for the sweep", error)
