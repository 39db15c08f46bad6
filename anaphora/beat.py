"""Beat's scheduler, which a clock that was once ahead does not stop.

django-celery-beat notes when a task ran last. Noted by a clock that was ahead and has been set right since, that is a
time to come, and until it has come nothing runs: no sweep, no inbox, no retries, and a restart does not help.
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
from anaphora.foreign_text import words

logger = logging.getLogger(__name__)

TOLERANCE = timedelta(seconds=60)
"""By which clocks of two machines may differ."""


WAIT_SECONDS = 2
"""Between two looks at a database that isn't there or isn't migrated."""


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """Looks, at the start and whenever the clock was set back, for runs noted in the future, and takes them as now."""

    _latest: datetime | None = None
    _noted: datetime | None = None

    def setup_schedule(self) -> None:
        """Install the tasks of the settings and read the schedule, as soon as the database is there and migrated.

        django-celery-beat would go on without the tasks that it can't write, and nothing would ever be swept.
        """
        with _ending_on_signals():
            while problem := _database_problem():
                logger.warning("Beat waits for the database: %s", problem)
                time.sleep(WAIT_SECONDS)
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Run what is due; return the seconds until the next."""
        now = timezone.now()
        if self._latest is not None and now < self._latest - TOLERANCE:
            logger.warning("The clock was set back from %s to %s", self._latest, now)
            self._dirty.clear()  # what would be written has times of the old clock
            forget_future_runs(now)
            self._schedule, self._heap, self._last_timestamp = None, None, None
            self._initial_read = True
        self._latest = now
        if self._noted is None or abs(now - self._noted) >= heartbeat.EVERY:
            heartbeat.note(Role.BEAT)
            self._noted = now
        seconds: float = super().tick(*args, **kwargs)
        return seconds


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the process at once.

    Celery's handler writes the schedule first. While there is no scheduler it makes another one for that, which would
    wait for the database itself, and the process would never end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and gets the signals
        return
    before = {each: signal.signal(each, _end) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end(*_: Any) -> NoReturn:
    raise SystemExit


def _database_problem() -> str:
    """Return in a sentence why the database can't be used yet; empty if it can."""
    try:
        executor = MigrationExecutor(database)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return MIGRATE
        forget_future_runs(timezone.now())
    except DatabaseError as error:
        database.close()
        return database_problem(error) or words(str(error), 300)
    return ""


def forget_future_runs(now: datetime) -> None:
    """Take what is noted to have run later than `now`, an aware time, to have run now."""
    PeriodicTask.objects.filter(last_run_at__gt=now + TOLERANCE).update(last_run_at=now)
    PeriodicTask.objects.filter(date_changed__gt=now + TOLERANCE).update(date_changed=now)
    PeriodicTasks.objects.filter(last_update__gt=now + TOLERANCE).update(last_update=now)
