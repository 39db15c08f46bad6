"""Celery's doors to the engine. A message carries an interface's id and nothing else."""

import logging
from functools import partial
from time import monotonic
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down
from django.utils import timezone

from anaphora.deliveries import catalogues, engine, heartbeat, housekeeping, policies, queue
from anaphora.deliveries.models import ArchivePolicy

logger = logging.getLogger(__name__)


TURN_SECONDS = 10
"""How long one task goes on claiming. Then it gives back what it hasn't begun and queues up again behind the other
interfaces, so that none of them is held up by a long backlog or a slow store."""


@worker_shutting_down.connect
def end_turns(**kwargs: Any) -> None:
    """Let a worker that is told to end (SIGTERM) do so as soon as the uploads under way are through."""
    engine.stop()


@shared_task(name="deliveries.deliver_due")
def deliver_due(interface_id: int) -> None:
    """Deliver what is due for an interface, for one turn. Where there is a backlog, ask another worker to help."""
    queue.take_up(interface_id)
    ask = partial(request_delivery, interface_id)
    if engine.deliver_due(interface_id, seconds=TURN_SECONDS, on_backlog=ask).unfinished:
        ask()


@shared_task(name="deliveries.sweep")
def sweep() -> None:
    """Find what no message announced: retries, ended pauses, and what dead workers or lost messages left."""
    queue.forget_other_clocks()
    policies.run_scheduled(timezone.now())
    for interface_id in queue.interfaces_with_due_work():
        _send(interface_id)


@shared_task(name="deliveries.backfill")
def backfill(policy_id: int) -> None:
    """Make a policy's missing deliveries, for one turn at a time, and have them delivered behind fresh ones."""
    policy = ArchivePolicy.objects.filter(pk=policy_id).first()
    if policy is None:
        return
    end = monotonic() + TURN_SECONDS
    for _ in policies.create_missing(policy):
        request_delivery(policy.interface_id)
        if monotonic() > end:
            backfill.delay(policy_id)
            return


@shared_task(name="deliveries.write_catalogues")
def write_catalogues() -> None:
    """Write the catalogues of the days that are over; go on at once if that was not all."""
    if catalogues.write_due(timezone.now(), TURN_SECONDS):
        write_catalogues.delay()


@shared_task(name="deliveries.housekeeping")
def run_housekeeping() -> None:
    """Remove the local copies that are safely archived and whose days are over."""
    heartbeat.forget(timezone.now())
    housekeeping.tidy(timezone.now())


def request_delivery(interface_id: int) -> None:
    """Ask a worker to deliver what is due, unless one has been asked already and hasn't begun.

    So there is one message for many reports, and those of a busy interface don't stand before another's.
    """
    if queue.announce(interface_id):
        _send(interface_id)


def _send(interface_id: int) -> None:
    """Send the message. Whatever is wrong with the broker costs time only: the sweep asks again."""
    try:
        deliver_due.delay(interface_id)
    except Exception as error:  # each kind of broker has errors of its own, such as a refused password
        logger.warning("The broker takes no message (%s); the delivery waits for the sweep", error)
