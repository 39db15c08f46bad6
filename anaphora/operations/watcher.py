"""Who looks whether an alert is due: a thread in each worker and in beat, so that each notices when the other is gone.

No message of the broker is involved, so a broker that is away holds no alert up. Where neither runs, a web process
looks when it is asked for its health, its metrics or a page; `manage.py check_alerts` serves a timer.
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
NOBODY = timedelta(minutes=3)
"""When nobody has looked for so long, a web process does."""


def look() -> None:
    """Do all that is due. Never raises: the next look makes up for this one."""
    try:
        alerts.check(timezone.now())
        totals.recount_if_due()
    except DatabaseError as error:
        logger.warning("Alerts could not be checked: %s", error)
    except Exception:
        logger.exception("Unexpected error while alerts were checked")


def look_if_nobody_does() -> None:
    """Look in a thread of this web process, unless somebody did lately or there is nobody to tell."""
    try:
        last = Installation.objects.values_list("alerts_checked_at", flat=True).first()
        stale = last is None or last < timezone.now() - NOBODY
        if not stale or not AlertChannel.objects.filter(enabled=True).exists():
            return
    except DatabaseError:
        return
    _look_in_background()


def _look_in_background() -> None:
    threading.Thread(target=_look_and_close, name="alerts", daemon=True).start()


def _look_and_close() -> None:
    look()
    connection.close()


class _Watcher(threading.Thread):
    """Looks every now and then until it is told to end. It holds no connection in between.

    Not before everybody who was started with it has had the time to be seen.
    """

    def __init__(self) -> None:
        super().__init__(name="watcher", daemon=True)
        self.ended = threading.Event()

    def run(self) -> None:
        pause = heartbeat.SILENT
        while not self.ended.wait(pause.total_seconds()):
            _look_and_close()
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
    """Start with each worker and each beat."""
    worker_ready.connect(_start, dispatch_uid="operations")
    beat_init.connect(_start, dispatch_uid="operations")
    worker_shutting_down.connect(_stop, dispatch_uid="operations")
