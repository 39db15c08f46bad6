"""The Celery tasks of deliveries. A message carries an interface's id and nothing else."""

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
"""How long one task continues to claim. Then it gives back what it has not started and queues up again behind the other
interfaces, so that a long backlog or a slow store delays none of them."""


@worker_shutting_down.connect
def end_turns(**kwargs: Any) -> None:
    """Let a worker that is told to end (SIGTERM) do so as soon as the uploads in progress are done."""
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
    """Find what no message was sent for: retries, ended pauses, and what dead workers or lost messages left."""
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
    """Write the manifests of the days that are over; continue at once if that was not all."""
    if manifests.write_due(timezone.now(), TURN_SECONDS):
        write_manifests.delay()


@shared_task(name="deliveries.check_immutability")
def check_immutability() -> None:
    """Try what somebody with each interface's key could do to a report, on an object of its own."""
    protection.check_all(timezone.now())


@shared_task(name="deliveries.housekeeping")
def run_housekeeping() -> None:
    """Remove the local copies that are safely archived and whose days are over."""
    heartbeat.forget(timezone.now())
    housekeeping.run_housekeeping(timezone.now())


def request_delivery(interface_id: int) -> None:
    """Wake a worker to deliver what is due, unless a message to one is on its way.

    So there is one message for many reports, and those of a busy interface do not delay another's.
    """
    if queue.record_wakeup_sent(interface_id):
        _send(interface_id)


def _send(interface_id: int) -> None:
    """Send the message. A broker that fails costs time only: the sweep sends it again."""
    try:
        deliver_due.delay(interface_id)
    except Exception as error:  # each kind of broker has errors of its own, such as a refused password
        logger.warning("The broker takes no message (%s); the delivery waits for the sweep", error)
