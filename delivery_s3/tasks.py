"""Celery's doors to the archiver. A message carries an interface's id and nothing else."""

import logging
from functools import partial

from celery import shared_task
from kombu.exceptions import OperationalError

from delivery_s3 import archiver, deliveries

logger = logging.getLogger(__name__)


TURN_SECONDS = 20
"""How long one task goes on claiming. Then it queues up again behind the other interfaces, so that none of them is
held up by a long backlog or a slow store; and a worker that is told to stop needn't wait for a backlog's end."""


@shared_task(name="delivery_s3.deliver_due")
def deliver_due(interface_id: int) -> None:
    """Deliver what is due for an interface, for one turn. Where there is a backlog, ask another worker to help."""
    deliveries.take_up(interface_id)
    ask = partial(request_delivery, interface_id)
    if archiver.deliver_due(interface_id, seconds=TURN_SECONDS, on_backlog=ask).unfinished:
        ask()


@shared_task(name="delivery_s3.sweep")
def sweep() -> None:
    """Find what no message announced: retries, ended pauses, and what dead workers or lost messages left."""
    for interface_id in deliveries.interfaces_with_due_work():
        _send(interface_id)


def request_delivery(interface_id: int) -> None:
    """Ask a worker to deliver what is due, unless one has been asked already and hasn't begun.

    So there is one message for many reports, and those of a busy interface don't stand before another's.
    """
    if deliveries.announce(interface_id):
        _send(interface_id)


def _send(interface_id: int) -> None:
    """Send the message. A broker that is away costs time only: the sweep asks again."""
    try:
        deliver_due.delay(interface_id)
    except (OperationalError, OSError) as error:
        logger.warning("The broker takes no message (%s); the delivery waits for the sweep", error)
