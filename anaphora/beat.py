"""The scheduler of Celery beat. It keeps running after the system clock was set back.

django-celery-beat stores when each task last ran. If the clock was ahead at that time, the stored timestamp lies in the
future, and the task does not run until then, not even after a restart. This scheduler resets such timestamps.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NoReturn

from django.db import DatabaseError
from django.db import connection as database
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler

from anaphora.commands import MIGRATE, database_problem
from anaphora.deliveries import heartbeat
from anaphora.deliveries.models import Role
from anaphora.foreign_text import clean_line

logger = logging.getLogger(__name__)

TOLERANCE = timedelta(seconds=60)
"""Maximum clock difference between two machines."""

WAIT_SECONDS = 2
"""Pause between two checks of a database that is not reachable or not migrated."""


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """Resets timestamps in the future at the start and whenever the clock was set back."""

    _latest: datetime | None = None
    _heartbeat_at: datetime | None = None

    def setup_schedule(self) -> None:
        """Wait until the database is reachable and migrated. Then install the tasks and read the schedule.

        Without the wait, django-celery-beat would run without the tasks that it could not save.
        """
        with _exit_on_signals():
            while problem := _database_problem():
                logger.warning("Beat waits for the database: %s", problem)
                time.sleep(WAIT_SECONDS)
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Run the due tasks. Return the seconds until the next task."""
        now = timezone.now()
        if self._latest is not None and now < self._latest - TOLERANCE:
            logger.warning("The clock was set back from %s to %s", self._latest, now)
            self._dirty.clear()  # the unsaved entries contain timestamps of the old clock
            reset_future_runs(now)
            self._schedule, self._heap, self._last_timestamp = None, None, None
            self._initial_read = True
        self._latest = now
        if self._heartbeat_at is None or abs(now - self._heartbeat_at) >= heartbeat.EVERY:
            heartbeat.note(Role.BEAT)
            self._heartbeat_at = now
        seconds: float = super().tick(*args, **kwargs)
        return seconds


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Exit immediately on SIGTERM and SIGINT.

    Celery's handler saves the schedule first. If there is no scheduler yet, it creates one, which would wait for the
    database too, and the process would never exit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set handlers and receives signals
        return
    before = {each: signal.signal(each, _exit) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _exit(*_: Any) -> NoReturn:
    raise SystemExit


def _database_problem() -> str:
    """Return why the database cannot be used yet, or an empty string. Resets timestamps in the future."""
    try:
        executor = MigrationExecutor(database)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return MIGRATE
        reset_future_runs(timezone.now())
    except DatabaseError as error:
        database.close()
        return database_problem(error) or clean_line(str(error), 300)
    return ""


def reset_future_runs(now: datetime) -> None:
    """Set the timestamps of runs after `now` (aware) to `now`."""
    PeriodicTask.objects.filter(last_run_at__gt=now + TOLERANCE).update(last_run_at=now)
    PeriodicTask.objects.filter(date_changed__gt=now + TOLERANCE).update(date_changed=now)
    PeriodicTasks.objects.filter(last_update__gt=now + TOLERANCE).update(last_update=now)
