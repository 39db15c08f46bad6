"""Health checks for load balancers, containers and service managers. No answer contains a secret."""

import shutil
import socket
import tempfile
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.utils import timezone

from anaphora.celery import app
from anaphora.deliveries import heartbeat
from anaphora.deliveries.models import Heartbeat, Role

KEPT_SECONDS = 2
"""How long an answer is cached, so that frequent requests need no further connections."""


@dataclass(frozen=True)
class Check:
    """The result of one check. `problem` is empty if it passed."""

    name: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it works."""
        return not self.problem


def ready() -> list[Check]:
    """Check database, broker, data folder, worker and beat."""
    kept: list[Check] | None = cache.get("health")
    if kept is None:
        kept = [Check("database", _database()), Check("broker", _broker()), Check("data folder", _data_folder())]
        kept += [Check(role.value, _process(role)) for role in heartbeat.NEEDED]
        cache.set("health", kept, KEPT_SECONDS)
    return kept


def seen_here(role: Role) -> bool:
    """Return whether a process of this role has been seen on this machine lately."""
    since = timezone.now() - heartbeat.SILENT
    latest = timezone.now() + timedelta(seconds=60)
    rows = Heartbeat.objects.filter(role=role, host=socket.gethostname()[:255])
    return rows.filter(seen_at__gte=since, seen_at__lte=latest).exists()


def free_bytes() -> int:
    """Return how much space is free under DATA_DIR."""
    return shutil.disk_usage(settings.DATA_DIR).free


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "The database (DATABASE_URL) does not answer."
    return ""


def _broker() -> str:
    try:
        with app.connection_for_write(connect_timeout=3) as broker:
            broker.connect()
            broker.default_channel  # noqa: B018  # Redis is not asked before
    except Exception:  # each kind of broker has its own errors
        return "The message broker (CELERY_BROKER_URL) does not answer."
    return ""


def _data_folder() -> str:
    try:
        with tempfile.TemporaryFile(dir=settings.DATA_DIR) as file:
            file.write(b"x")
        free = free_bytes()
    except OSError as error:
        return f"DATA_DIR cannot be written: {error.strerror}."
    return "" if free >= settings.MIN_FREE_MB * 10**6 else "Less than MIN_FREE_MB is free on the disk of DATA_DIR."


def _process(role: Role) -> str:
    try:
        return next((f"{each}." for each in heartbeat.missing() if each.role is role), "")
    except DatabaseError:
        return "Unknown: the database does not answer."
