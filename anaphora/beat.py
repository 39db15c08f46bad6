"""Beat's scheduler, which a clock that was once ahead does not stop.

django-celery-beat notes when a task ran last. Noted by a clock that was ahead and has been set right since, that is a
time to come, and until it has come nothing runs: no sweep, no inbox, no retries, and a restart does not help.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler

from anaphora.deliveries import heartbeat
from anaphora.deliveries.models import Role

logger = logging.getLogger(__name__)

TOLERANCE = timedelta(seconds=60)
"""By which clocks of two machines may differ."""


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """Looks, at the start and whenever the clock was set back, for runs noted in the future, and takes them as now."""

    _latest: datetime | None = None
    _noted: datetime | None = None

    def setup_schedule(self) -> None:
        """Install the tasks of the settings and read the schedule."""
        while True:
            try:
                forget_future_runs(timezone.now())
                break
            except OperationalError as error:
                # django-celery-beat would go on without the tasks that it can't write, and nothing would ever be swept.
                logger.warning("Waiting for the database: %s", error)
                time.sleep(1)
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


def forget_future_runs(now: datetime) -> None:
    """Take what is noted to have run later than `now`, an aware time, to have run now."""
    PeriodicTask.objects.filter(last_run_at__gt=now + TOLERANCE).update(last_run_at=now)
    PeriodicTask.objects.filter(date_changed__gt=now + TOLERANCE).update(date_changed=now)
    PeriodicTasks.objects.filter(last_update__gt=now + TOLERANCE).update(last_update=now)
