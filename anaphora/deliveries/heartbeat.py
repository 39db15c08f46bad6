"""Heartbeats: web processes, workers and beat record regularly that they run, so pages can report when none does."""

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

NEEDED = (Role.WORKER, Role.BEAT)
"""Roles whose absence is reported. Without a web server there is no page that could report it."""
EVERY = timedelta(seconds=20)
"""How often a process records that it runs."""
SILENT = timedelta(seconds=90)
"""A role counts as missing when no process of it was seen for this long."""
FORGET = timedelta(days=30)
"""Rows of machines that were not seen for this long are deleted."""
_SKEW = timedelta(seconds=60)
"""How much the clocks of two machines may differ. A heartbeat further in the future comes from a wrong clock."""


@dataclass(frozen=True)
class Missing:
    """A role without a running process. `since` is when one was last seen (aware); None if never."""

    role: Role
    since: datetime | None

    @property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis that explains what this means and what to do."""
        return {Role.WORKER: NO_WORKER, Role.BEAT: NO_BEAT}[self.role]

    def __str__(self) -> str:
        if self.since is None:
            return f"No {self.role.label} has been seen yet"
        return f"No {self.role.label} has been seen since {timezone.localtime(self.since):%d %b %Y %H:%M %Z}"


def note(role: Role) -> None:
    """Record that a process of this role runs on this machine. A database error is logged, not raised."""
    seen = Heartbeat(role=role, host=socket.gethostname()[:255], seen_at=timezone.now())
    try:
        Heartbeat.objects.bulk_create(
            [seen], update_conflicts=True, unique_fields=["role", "host"], update_fields=["seen_at"]
        )
    except DatabaseError as error:
        logger.warning("The heartbeat could not be recorded: %s", error)


def missing() -> list[Missing]:
    """Return the roles without a running process."""
    now = timezone.now()
    # dict() keeps the newest of each role. There is one row per role and machine, so few in all.
    rows = Heartbeat.objects.filter(seen_at__lte=now + _SKEW).order_by("seen_at").values_list("role", "seen_at")
    last: dict[str, datetime] = dict(rows)
    return [Missing(role, last.get(role)) for role in NEEDED if role not in last or last[role] < now - SILENT]


def notice() -> str:
    """Return one line that says that no worker runs; empty if one does."""
    return next((f"{each}. Reports wait until one runs." for each in missing() if each.role is Role.WORKER), "")


def delete_old(now: datetime) -> None:
    """Delete old rows; `now` is aware."""
    Heartbeat.objects.filter(seen_at__lt=now - FORGET).delete()


class _HeartbeatThread(threading.Thread):
    """Records heartbeats of this process until it is told to end. Keeps no database connection open.

    In a worker it runs in the main process, so that long uploads do not delay heartbeats.
    """

    def __init__(self, role: Role) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.role = role
        self.ended = threading.Event()

    def run(self) -> None:
        while True:
            note(self.role)
            connection.close()
            if self.ended.wait(EVERY.total_seconds()):
                return


_threads: list[_HeartbeatThread] = []
_starting = threading.Lock()


def start(role: Role) -> None:
    """Start recording that this process runs. A second call in the same process does nothing."""
    with _starting:
        if not any(each.is_alive() for each in _threads):  # threads do not survive a fork
            _threads[:] = [_HeartbeatThread(role)]
            _threads[0].start()


@worker_ready.connect
def _start(**kwargs: Any) -> None:
    start(Role.WORKER)


@worker_shutting_down.connect
def _stop(**kwargs: Any) -> None:
    for thread in _threads:
        thread.ended.set()
