"""Fixtures shared by the tests: a real S3 server, buckets, a real worker, and a clean local store."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from anaphora.deliveries.destinations import open_destinations
from delivery_s3.connection import Connection
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.browsing import CHROMIUM, browser, page  # noqa: F401  # fixtures for all
from tests.support.buckets import Bucket
from tests.support.factories import make_connection, make_interface
from tests.support.processes import ROOT, have_namespaces, new_worker, worker_environment
from tests.support.servers import S3Server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need programs which are not installed. In CI, they are not skipped but fail.

    Tests of Ceph are skipped, also in CI, unless CEPH_ENV is set.
    """
    ci = bool(os.environ.get("CI"))
    there = {
        "ceph": bool(os.environ.get("CEPH_ENV")),
        "browser": ci or CHROMIUM is not None,
        "namespace": ci or have_namespaces(),
        "promtool": ci or shutil.which("promtool") is not None,
        "systemd": ci or shutil.which("systemd-analyze") is not None,
    }
    left_out = [
        item for item in items if any(not have and item.get_closest_marker(mark) for mark, have in there.items())
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate each test from the AWS settings of this machine and from files and clients of other tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    yield
    open_destinations.clear()
    shutil.rmtree(django_settings.DATA_DIR / "reports", ignore_errors=True)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server: the one that TEST_S3_ENDPOINT or CEPH_ENV names, otherwise rclone."""
    if os.environ.get("TEST_S3_ENDPOINT"):
        yield servers.from_environment()
        return
    if os.environ.get("CEPH_ENV"):
        yield servers.ceph()
        return
    with servers.rclone(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with servers.moto() as server:
        yield server


@pytest.fixture
def make_bucket() -> Callable[..., Bucket]:
    return Bucket


@pytest.fixture
def bucket(s3: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    return make_bucket(s3)


@pytest.fixture
def versioned_bucket(moto: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    """A bucket that keeps versions and enforces conditions."""
    bucket = make_bucket(moto)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def connection(bucket: Bucket) -> Connection:
    return make_connection(bucket.server, bucket.name)


@pytest.fixture
def interface(db: None, bucket: Bucket) -> S3Interface:
    return make_interface(bucket.server, bucket.name)


@pytest.fixture
def celery_processes() -> list[subprocess.Popen[bytes]]:
    """The processes started by `start_celery`, in this order."""
    return []


@pytest.fixture
def start_celery(
    transactional_db: None, tmp_path: Path, celery_processes: list[subprocess.Popen[bytes]]
) -> Iterator[Callable[..., Path]]:
    """Return a function that starts a real Celery worker, or beat, on this test's database and returns its log."""
    running = celery_processes

    def start(role: str = "worker", **environment: str) -> Path:
        log = tmp_path / f"{role}-{len(running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "anaphora"]
                + (new_worker() if role == "worker" else ["beat", "--pidfile="])
                + ["--loglevel", environment.get("LOG_LEVEL", "INFO")],
                cwd=ROOT,
                env=worker_environment() | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(process)
        return log

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the deliveries that it claimed no longer matter
        process.wait()
