"""An installation of the product for a measurement, with its own database and queue, and real Celery workers."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

ROOT = Path(__file__).resolve().parent.parent
DATABASE = os.environ.get("BENCH_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
BROKER = os.environ.get("BENCH_BROKER_URL", "redis://127.0.0.1:6379/9")


@contextmanager
def installation(folder: Path, *, template: str = "") -> Iterator[None]:
    """Create a database on the server of BENCH_DATABASE_URL, set Django up with it, and drop it at the end.

    `template` is the name of a database to copy.
    """
    name = f"anaphora_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(DATABASE, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": urlunsplit(urlsplit(DATABASE)._replace(path=f"/{name}")),
        "CELERY_BROKER_URL": BROKER,
        "DATA_DIR": str(folder / "data"),
        "ANAPHORA_TEST_QUEUE": name,
        "ANAPHORA_TEST_OWNER": "main",  # so that the settings of the tests keep these
        "ENV_FILE": os.devnull,
        "LOG_LEVEL": "ERROR",
    }
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        from django.db import connections

        connections.close_all()
        with psycopg.connect(DATABASE, autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Workers:
    """A Celery worker with its child processes, and their total memory."""

    def __init__(self, app: str, processes: int, folder: Path, *, queue: str = "", **environment: str) -> None:
        log = folder / f"{app}-{processes}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "--app", app, "worker", "--pool", "prefork"),
                    *("--concurrency", str(processes), "--queues", queue or os.environ["ANAPHORA_TEST_QUEUE"]),
                    *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
                ],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.peak_mb = 0.0
        self.processes_mb: list[int] = []
        """The memory of each process at the time of the highest total."""
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Pause the worker, so that it receives no messages."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watch.join()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()

    def largest_mb(self) -> float:
        """Return the highest peak of resident memory of any process, in MB (10^6 bytes)."""
        return max(peak_mb(pid) for pid in self._family())

    def _sample(self) -> None:
        while not self._over.wait(2):
            sizes = list(map(_proportional_mb, self._family()))
            if sum(sizes) > self.peak_mb:
                self.peak_mb, self.processes_mb = sum(sizes), [round(size) for size in sizes]

    def _family(self) -> list[int]:
        return [self._process.pid, *children_of(self._process.pid)]


def _proportional_mb(pid: int) -> float:
    """Return the proportional set size (PSS) of a process in MB (10^6 bytes)."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def children_of(pid: int) -> list[int]:
    """Return the child processes of a process."""
    with suppress(OSError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def peak_mb(pid: int) -> float:
    """Return the peak of a process's resident memory in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def wait_until_delivered(number: int, *, seconds: float = 300) -> None:
    """Wait until this many deliveries are delivered."""
    from anaphora.deliveries.models import Delivery, State

    end = time.monotonic() + seconds
    while Delivery.objects.filter(state=State.DELIVERED).count() < number:
        if time.monotonic() > end:
            raise SystemExit("The workers didn't deliver in time")
        time.sleep(0.05)


def plans(statements: list[str]) -> list[str]:
    """Return PostgreSQL's plan for each of these statements that reads or changes rows."""
    from django.db import connection

    found = []
    with connection.cursor() as cursor:
        for statement in statements:
            if statement.lstrip().startswith(("SELECT", "UPDATE", "WITH")):
                cursor.execute(f"EXPLAIN {statement}")
                found.append("\n".join(row[0][:160] for row in cursor.fetchall()))
    return found
