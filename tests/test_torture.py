"""Whatever is killed, and whenever: every report ends in the bucket, once, with the right bytes.

`make torture` runs it for longer. The seed is printed; TORTURE_SEED repeats the faults' choice (not the clock's).
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection as database
from django.db.models import Count

from anaphora.reports.models import Report
from delivery_s3.models import Delivery, S3Interface, State
from tests import servers
from tests.conftest import ROOT, Bucket, worker_environment
from tests.factories import make_interface, make_policy, make_report
from tests.servers import Fault

pytestmark = pytest.mark.django_db(transaction=True)

REPORTS = int(os.environ.get("TORTURE_REPORTS", "120"))
SECONDS = int(os.environ.get("TORTURE_SECONDS", "20"))
ENVIRONMENT = {
    "DELIVERY_LEASE_SECONDS": "10",
    "DELIVERY_RETRY_SECONDS": "2",
    "DELIVERY_SWEEP_SECONDS": "1",
    "DELIVERY_CONCURRENCY": "4",
}
FAULTS = [fault for fault in Fault if fault not in {Fault.NONE, Fault.REFUSE_CONDITION}]


class Store:
    """A store behind faults: how many requests it let through unharmed, and which keys were under way at once."""

    def __init__(self, chance: random.Random) -> None:
        self.calm = False
        self.seen: Counter[Fault] = Counter()
        self._chance, self._lock = chance, threading.Lock()

    def decide(self, method: str, path: str) -> Fault:
        with self._lock:
            harm = not self.calm and self._chance.random() < 0.3
            fault = self._chance.choice(FAULTS) if harm else Fault.NONE
            self.seen[fault] += 1
            return fault


class Crew:
    """The processes that deliver: two workers and beat, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()

    def start(self, name: str) -> None:
        role = ["beat", "--pidfile="] if name == "beat" else ["worker", "--concurrency", "2"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "anaphora", *role, "--loglevel", "INFO"],
                cwd=ROOT,
                env=worker_environment() | ENVIRONMENT,
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


@pytest.fixture
def crew(transactional_db: None, tmp_path: Path) -> Iterator[Crew]:
    made = Crew(tmp_path)
    for name in ("worker-1", "worker-2", "beat"):
        made.start(name)
    yield made
    made.stop()


def empty_the_broker() -> None:
    with current_app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        channel.queue_purge(os.environ["ANAPHORA_TEST_QUEUE"])


def cut_database_connections() -> None:
    if database.vendor == "postgresql":
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def torment(crew: Crew, chance: random.Random, seconds: float) -> Counter[str]:
    """Kill, restart, empty and cut at random for so long; return what was done."""

    def restart(name: str) -> Callable[[], None]:
        def act() -> None:
            crew.kill(name)
            crew.start(name)

        return act

    acts = {
        "kill a worker": restart("worker-1"),
        "kill the other worker": restart("worker-2"),
        "kill beat": restart("beat"),
        "empty the broker": empty_the_broker,
        "cut the database's connections": cut_database_connections,
    }
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.3, 2.5))
        name = chance.choice(list(acts))
        acts[name]()
        done[name] += 1
    return done


def test_nothing_is_lost_doubled_or_corrupted_whatever_is_killed(bucket: Bucket, crew: Crew) -> None:
    seed = os.environ.get("TORTURE_SEED") or str(random.randrange(10**9))
    chance = random.Random(seed)
    store = Store(random.Random(f"{seed} store"))
    with servers.in_front_of(bucket.server, store.decide) as endpoint:
        interface = make_interface(bucket.server, bucket.name, endpoint_url=endpoint)
        make_policy(interface)
        contents = {}

        def take_in() -> None:
            for number in range(REPORTS):
                content = chance.randbytes(chance.choice([3_000, 20_000, 200_000, 2_000_000]))
                report = make_report(content, filename=f"{number}.bin")
                contents[report.pk] = content

        take_in()
        done = torment(crew, chance, SECONDS)
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
    assert sum(done.values()) >= SECONDS / 3
    assert len(store.seen) > 5
