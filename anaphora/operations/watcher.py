"""Checks regularly for alerts, in a thread of each worker and of beat, so that each notices when the other is missing.

The broker is not involved, so alerts are sent even if it is down. If neither a worker nor beat runs, a web process
checks when it is asked for its health, its metrics or a page. `manage.py check_alerts` can be run by a timer.
"""

import logging
import threading
from datetime import timedelta
from typing import Any

from celery.signals import beat_init, worker_ready, worker_shutting_down
from django.db import DatabaseError, connection
from django.utils import timezone

from anaphora.deliveries import heartbeat
from anaphora.operations import alerts, totals
from anaphora.operations.models import AlertChannel, Installation

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=20)
STALE = timedelta(minutes=3)
"""If there was no check for this long, a web process makes one."""


def check() -> None:
    """Run all checks that are due. Never raises: the next run repeats a failed one."""
    try:
        alerts.check(timezone.now())
        totals.recount_if_due()
    except DatabaseError as error:
        logger.warning("Alerts could not be checked: %s", error)
    except Exception:
        logger.exception("Unexpected error while checking alerts")


def check_if_stale() -> None:
    """Check in a thread of this web process, unless a check was made lately or there is no channel."""
    try:
        last = Installation.objects.values_list("alerts_checked_at", flat=True).first()
        is_stale = last is None or last < timezone.now() - STALE
        if not is_stale or not AlertChannel.objects.filter(enabled=True).exists():
            return
    except DatabaseError:
        return
    _check_in_background()


def _check_in_background() -> None:
    threading.Thread(target=_check_and_close, name="alerts", daemon=True).start()


def _check_and_close() -> None:
    check()
    connection.close()


class _Watcher(threading.Thread):
    """Checks regularly until it is told to end. Keeps no database connection open in between.

    The first check waits until processes started at the same time have had time to record a heartbeat.
    """

    def __init__(self) -> None:
        super().__init__(name="watcher", daemon=True)
        self.ended = threading.Event()

    def run(self) -> None:
        pause = heartbeat.SILENT
        while not self.ended.wait(pause.total_seconds()):
            _check_and_close()
            pause = EVERY


_watching: list[_Watcher] = []


def _start(**kwargs: Any) -> None:
    thread = _Watcher()
    _watching.append(thread)
    thread.start()


def _stop(**kwargs: Any) -> None:
    for thread in _watching:
        thread.ended.set()


def connect() -> None:
    """Start the thread with each worker and with beat."""
    worker_ready.connect(_start, dispatch_uid="operations")
    beat_init.connect(_start, dispatch_uid="operations")
    worker_shutting_down.connect(_stop, dispatch_uid="operations")
