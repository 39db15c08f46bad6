"""Beat, after a clock that was ahead has been corrected, and before the database is available."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from anaphora import beat
from anaphora.celery import app
from anaphora.deliveries import queue
from anaphora.deliveries.models import ArchivePolicy
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy
from tests.support.processes import ROOT


def wait_for(log: Path, words: str, *, times: int = 1) -> None:
    end = time.monotonic() + 60
    while log.read_text().count(words) < times:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.mark.django_db(transaction=True)
def test_last_runs_in_the_future_stop_no_task(start_celery: Callable[..., Path]) -> None:
    beat.Scheduler(app=app)  # writes the tasks of the settings
    later = timezone.now() + timedelta(days=400)
    assert PeriodicTask.objects.update(last_run_at=later, date_changed=later)
    PeriodicTasks.objects.update(last_update=later)
    log = start_celery("beat", DELIVERY_SWEEP_SECONDS="1")
    end = time.monotonic() + 30
    while "Sending due task look for due deliveries" not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    assert not PeriodicTask.objects.filter(last_run_at__gt=timezone.now() + timedelta(hours=1)).exists()


@pytest.mark.django_db(transaction=True)
def test_a_clock_set_back_while_running_stops_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat.Scheduler, "apply_entry", lambda self, entry, **options: None)
    scheduler: Any = beat.Scheduler(app=app)
    later = timezone.now() + timedelta(days=400)
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: later)
        scheduler.tick()
    for entry in scheduler.schedule.values():
        entry.last_run_at = entry.model.last_run_at = later
        scheduler._dirty.add(entry.name)
    PeriodicTask.objects.update(last_run_at=later)
    assert scheduler.tick() <= 60, "something is due within a minute, not in 400 days"
    assert all(entry.last_run_at < later for entry in scheduler.schedule.values())
    scheduler.sync()
    assert not PeriodicTask.objects.filter(last_run_at__gte=later).exists()


@pytest.mark.django_db
def test_last_runs_in_the_future_are_reset_to_now(interface: S3Interface) -> None:
    later = timezone.now() + timedelta(days=400)
    policy = make_policy(interface)
    ArchivePolicy.objects.update(ran_at=later)
    queue.reset_future_timestamps()
    policy.refresh_from_db()
    assert policy.ran_at <= timezone.now()


def test_beat_waits_for_an_unmigrated_database_and_ends_at_once(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "anaphora.settings", "DATABASE_URL": address}
    environment |= {"DATA_DIR": str(tmp_path / "data"), "SECRET_KEY": "x", "FERNET_KEYS": "x"}
    log = tmp_path / "beat.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "anaphora", "beat", "--pidfile="],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(log, "Run: python manage.py migrate", times=2)
        process.terminate()
        assert process.wait(5) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", sorted(settings.CELERY_BEAT_SCHEDULE))
def test_a_worker_whose_clock_is_ahead_drops_no_task(name: str) -> None:
    entry = settings.CELERY_BEAT_SCHEDULE[name]
    ahead = timezone.now() + beat.TOLERANCE
    expires = timezone.now() + timedelta(seconds=entry["options"]["expires"])
    assert expires > ahead, "celery.worker.request.Request.maybe_expire drops it by the worker's clock"
