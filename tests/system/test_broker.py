"""The filesystem broker of small installations."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kombu import Connection

from anaphora import broker
from tests.support.processes import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "broker" / "messages"
    made.mkdir(parents=True)
    return made


def test_a_truncated_message_is_skipped_and_the_next_one_is_read(folder: Path) -> None:
    broker.install()
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder.parent)}
    with Connection("filesystem://", transport_options=options) as connection:
        queue = connection.SimpleQueue("celery")
        (folder / "1_half.celery.msg").touch()
        (folder / "2_half.celery.msg").write_text('{"body": "')
        queue.put({"number": 7})
        message = queue.get(timeout=5)
        assert message.payload == {"number": 7}
        message.ack()
        queue.close()


def test_a_worker_survives_a_truncated_message(folder: Path, tmp_path: Path) -> None:
    (folder / "1_half.celery.msg").touch()
    environment = os.environ | {
        "DATA_DIR": str(tmp_path),
        "CELERY_BROKER_URL": "filesystem://localhost",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "ANAPHORA_TEST_QUEUE": "celery",
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "anaphora", "worker", "--concurrency", "1"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 30
        while "Skipped a truncated message" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.1)
        assert "Skipped a truncated message" in log.read_text()
        time.sleep(1)
        assert worker.poll() is None
    finally:
        worker.terminate()
        worker.wait()
