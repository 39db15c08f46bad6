"""Heartbeats: every worker and every beat notes now and then that it runs, so that pages can say when none does."""

import logging
import socket
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery.signals import worker_ready, worker_shutting_down
from django.db import DatabaseError, connection
from django.utils import timezone

from anaphora.deliveries.errors import NO_BEAT, NO_WORKER, Diagnosis
from anaphora.deliveries.models import Heartbeat, Role

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=20)
"""How often a process notes that it runs."""
SILENT = timedelta(seconds=90)
"""A role that nobody has been seen in for so long counts as missing."""
FORGET = timedelta(days=30)
"""Machines that haven't been seen for so long are no longer kept."""
_SKEW = timedelta(seconds=60)
"""By which clocks of two machines may differ. What was noted further ahead was noted by a wrong clock."""


@dataclass(frozen=True)
class Missing:
    """A role that nobody is in, since the aware instant at which somebody was seen last; None: never yet."""

    role: Role
    since: datetime | None

    @property
    def diagnosis(self) -> Diagnosis:
        """Return what that means and what to do."""
        return {Role.WORKER: NO_WORKER, Role.BEAT: NO_BEAT}[self.role]

    def __str__(self) -> str:
        if self.since is None:
            return f"No {self.role.label} has been seen yet"
        return f"No {self.role.label} has been seen since {timezone.localtime(self.since):%d %b %Y %H:%M %Z}"


def note(role: Role) -> None:
    """Note that a process of this role runs on this machine. A database that is away is no reason to end."""
    seen = Heartbeat(role=role, host=socket.gethostname()[:255], seen_at=timezone.now())
    try:
        Heartbeat.objects.bulk_create(
            [seen], update_conflicts=True, unique_fields=["role", "host"], update_fields=["seen_at"]
        )
    except DatabaseError as error:
        logger.warning("The heartbeat could not be noted: %s", error)


def missing() -> list[Missing]:
    """Return the roles that nobody is in now."""
    now = timezone.now()
    # The newest of each; there are as many rows as machines.
    rows = Heartbeat.objects.filter(seen_at__lte=now + _SKEW).order_by("seen_at").values_list("role", "seen_at")
    last: dict[str, datetime] = dict(rows)
    return [Missing(role, last.get(role)) for role in Role if role not in last or last[role] < now - SILENT]


def notice() -> str:
    """Say in one line that no worker runs, or return an empty text."""
    return next((f"{each}: what came in waits until one runs." for each in missing() if each.role is Role.WORKER), "")


def forget(now: datetime) -> None:
    """Remove what was noted long ago; `now` is aware."""
    Heartbeat.objects.filter(seen_at__lt=now - FORGET).delete()


class _Beating(threading.Thread):
    """Notes that the worker runs until it is told to end.

    In the worker's own process, so that no upload, however long, keeps it waiting. It holds no connection in between.
    """

    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.ended = threading.Event()

    def run(self) -> None:
        while True:
            note(Role.WORKER)
            connection.close()
            if self.ended.wait(EVERY.total_seconds()):
                return


_beating: list[_Beating] = []


@worker_ready.connect
def _start(**kwargs: Any) -> None:
    thread = _Beating()
    _beating.append(thread)
    thread.start()


@worker_shutting_down.connect
def _stop(**kwargs: Any) -> None:
    for thread in _beating:
        thread.ended.set()
