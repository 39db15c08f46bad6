"""Whatever is killed, and whenever, every report is stored once, with the right bytes.

`make torture` runs it for longer. It prints the seed; TORTURE_SEED repeats the choice of faults, but not their timing.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection as database
from django.db import transaction
from django.db.models import Count

from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.processes import ROOT, new_worker, worker_environment
from tests.support.servers import Fault, S3Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.heavy]

REPORTS = int(os.environ.get("TORTURE_REPORTS", "120"))
SECONDS = int(os.environ.get("TORTURE_SECONDS", "20"))
ENVIRONMENT = {
    # Longer than the store can process a request of a killed worker, so that no upload overlaps with its retry.
    "DELIVERY_LEASE_SECONDS": "20",
    "DELIVERY_RETRY_SECONDS": "2",
    "DELIVERY_SWEEP_SECONDS": "1",
    "DELIVERY_CONCURRENCY": "4",
}
SIZES = [3_000, 3_000, 20_000, 20_000, 200_000, 200_000, 1_000_000, 5_000_000]
FAULTS = [fault for fault in Fault if fault is not Fault.NONE and not fault.startswith("refuse")]


# Diagnoses that may count as an attempt of a report: the cause can be the report or the store.
AMBIGUOUS = frozenset(FAULTS) - {Fault.DELAY, Fault.ANSWER_503, Fault.ANSWER_503_WAIT, Fault.ANSWER_429}


class Store:
    """A store behind a server that chooses and simulates faults, and logs the requests.

    `doubled` contains the paths that were uploaded twice at the same time.
    """

    def __init__(self, chance: random.Random) -> None:
        self.calm = False
        self.seen: Counter[Fault] = Counter()
        self.ambiguous: Counter[str] = Counter()
        self.doubled: list[str] = []
        self.log: defaultdict[str, list[str]] = defaultdict(list)
        self._under_way: Counter[str] = Counter()
        self._chance, self._lock = chance, threading.Lock()

    def decide(self, method: str, path: str) -> Fault:
        with self._lock:
            harm = not self.calm and self._chance.random() < 0.3
            fault = self._chance.choice(FAULTS) if harm else Fault.NONE
            self.seen[fault] += 1
            self.ambiguous[path] += fault in AMBIGUOUS
            self.log[path].append(f"{datetime.now(UTC):%H:%M:%S.%f} {method}: {fault}")
            if method == "PUT":
                self._under_way[path] += 1
                if self._under_way[path] > 1:
                    self.doubled.append(path)
            return fault

    def ended(self, method: str, path: str, status: int) -> None:
        with self._lock:
            # The real server, rclone, returns status 500 now and then.
            self.ambiguous[path] += status == 0 or status >= 500
            self.log[path].append(f"{datetime.now(UTC):%H:%M:%S.%f} {method} ended: {status}")
            self._under_way[path] -= method == "PUT"


class Broker:
    """A Redis started by the test, which can be killed with all its messages, or else the configured broker."""

    def __init__(self) -> None:
        program = shutil.which("redis-server") if str(current_app.conf.broker_url).startswith("redis") else None
        self._command = [program or "", "--port", str(servers.free_port()), "--save", "", "--appendonly", "no"]
        self.environment = {"CELERY_BROKER_URL": f"redis://127.0.0.1:{self._command[2]}/0"} if program else {}
        self._process: subprocess.Popen[bytes] | None = None
        if program:
            self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        servers.wait_for_port(int(self._command[2]), self._process)

    def empty(self) -> None:
        """Delete all messages; restart the broker if the test started it."""
        if self._process:
            self.stop()
            self._start()
            return
        with current_app.connection_for_write() as broker:
            channel: Any = broker.default_channel
            channel.queue_purge(os.environ["ANAPHORA_TEST_QUEUE"])

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


class Crew:
    """The processes that deliver: two workers and beat, which are killed and restarted."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()

    def start(self, name: str) -> None:
        role = ["beat", "--pidfile="] if name == "beat" else new_worker()
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "anaphora", *role, "--loglevel", "INFO"],
                cwd=ROOT,
                env=worker_environment() | ENVIRONMENT | self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.kills[name] += 1

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def log_lines(self, word: str) -> list[str]:
        """Return the lines of all logs that contain a word."""
        logs = (path.read_text(errors="replace") for path in sorted(self._folder.glob("worker-*.log")))
        return [line for log in logs for line in log.splitlines() if word in line]


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.stop()


@pytest.fixture
def crew(transactional_db: None, tmp_path: Path, broker: Broker) -> Iterator[Crew]:
    made = Crew(tmp_path, broker.environment)
    for name in ("worker-1", "worker-2", "beat"):
        made.start(name)
    yield made
    made.stop()


def trouble_the_database() -> None:
    """Close the connections of PostgreSQL, or lock the SQLite file for a while."""
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    if database.vendor == "sqlite":
        with transaction.atomic():
            time.sleep(1)


def torment(crew: Crew, broker: Broker, chance: random.Random, seconds: float) -> Counter[str]:
    """Kill processes, delete messages and cut connections at random for `seconds`; return what was done."""

    def restart(name: str) -> Callable[[], None]:
        def act() -> None:
            crew.kill(name)
            crew.start(name)

        return act

    acts = {
        "kill a worker": restart("worker-1"),
        "kill the other worker": restart("worker-2"),
        "kill beat": restart("beat"),
        "restart the broker": broker.empty,
        "trouble the database": trouble_the_database,
    }
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.3, 2.5))
        name = chance.choice(list(acts))
        acts[name]()
        done[name] += 1
    return done


def test_nothing_is_lost_duplicated_or_corrupted_whatever_is_killed(
    make_bucket: Callable[..., Bucket], s3: S3Server, crew: Crew, broker: Broker
) -> None:
    seed = os.environ.get("TORTURE_SEED") or str(random.randrange(10**9))
    chance = random.Random(seed)
    store = Store(random.Random(f"{seed} store"))
    bucket = make_bucket(s3)
    with servers.in_front_of(bucket.server, store.decide, store.ended) as endpoint:
        interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
        make_policy(interface)
        contents = {}

        def take_in() -> None:
            for number in range(REPORTS):
                content = chance.randbytes(chance.choice(SIZES))
                report = make_report(content, filename=f"{number}.bin")
                contents[report.pk] = content

        take_in()
        done = torment(crew, broker, chance, SECONDS)
        for _ in range(5):
            if len(store.seen) > 5:
                break
            # On a busy machine, workers that are killed too often never deliver.
            time.sleep(6)
            done += torment(crew, broker, chance, SECONDS / 2)
        store.calm = True
        end = time.monotonic() + 120
        while time.monotonic() < end and Delivery.objects.exclude(state=State.DELIVERED).exists():
            time.sleep(0.3)
    print(f"seed {seed}; {dict(done)}; requests: {dict(store.seen)}")  # noqa: T201

    states = dict(Delivery.objects.order_by().values_list("state").annotate(Count("pk")))
    assert states == {State.DELIVERED: REPORTS}, (seed, states, list(S3Interface.objects.values("diagnosis", "detail")))
    assert len(bucket.keys()) == REPORTS
    for report in Report.objects.all():
        key = Delivery.objects.get(report=report).object_key
        assert bucket.read(key) == contents[report.pk], (seed, key)
    for path in store.doubled:
        print("\n".join([path, *store.log[path]]))  # noqa: T201
    assert store.doubled == [], (seed, "uploaded twice at the same time")
    for pk, key, charged in Delivery.objects.values_list("pk", "object_key", "attempts"):
        path = f"/{bucket.name}/{key}"
        if charged > store.ambiguous[path]:
            print("\n".join([*store.log[path], *crew.log_lines(f"Delivery {pk} of")]))  # noqa: T201
        assert charged <= store.ambiguous[path], (seed, path, "charged for an outage")
    assert sum(done.values()) >= SECONDS / 4
    assert len(store.seen) > 5
