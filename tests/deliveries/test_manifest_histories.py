"""Over random histories, with clocks that jump and processes that are killed at any request or query, each delivered
report is in exactly one manifest, and the manifests are a chain without gaps.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, BinaryIO

import pytest
from django.db import connection as database
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from anaphora.deliveries import manifests
from anaphora.deliveries.destinations import Condition, Integrity, Receipt, Upload
from anaphora.deliveries.manifest_models import Manifest
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # A killed process does not close its PostgreSQL cursors.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Killed(BaseException):
    """Simulates that the process was killed."""


class Store:
    """A store in memory with conditional writes. A process can be killed before or after each request."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.left = 10**9

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        body.seek(0)
        content = body.read()
        self.step()
        assert self.objects.setdefault(upload.key, content) == content, f"{upload.key} has two contents"
        self.step()
        return Receipt(upload.key, upload.size, upload.sha256, Integrity.SHA256, Condition.MET)

    def head(self, key: str) -> None:
        self.step()

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@contextmanager
def killed_after(store: Store, steps: int) -> Iterator[None]:
    """Kill the process after this many steps: before and after each request, and before each query."""

    def count(execute: Any, *arguments: Any) -> Any:
        store.step()
        return execute(*arguments)

    store.left = steps
    try:
        with database.execute_wrapper(count):
            yield
    except Killed:
        pass
    finally:
        store.left = 10**9


def deliver(interface: Interface, dashboard: Dashboard, number: int, at: datetime) -> str:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    report = Report.objects.create(
        dashboard=dashboard, rendered_at=START + timedelta(seconds=number), filename="x.pdf", md5="0" * 32,
        content_type="application/pdf", size=number + 1, sha256=digest, ingested_at=at,
    )  # fmt: skip
    key = f"sales/{number}.pdf"
    Delivery.objects.create(
        report=report, interface=interface, state=State.DELIVERED, object_key=key, size=number + 1, sha256=digest,
        delivered_at=at, integrity=Integrity.SHA256,
    )  # fmt: skip
    return key


HISTORIES = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 4)),
        st.tuples(st.just("pass"), st.integers(1, 50)),  # hours
        st.tuples(st.just("jump"), st.integers(-200, 200)),  # hours
        st.tuples(st.just("write"), st.integers(0, 60)),  # steps until it is killed
        st.tuples(st.just("rename"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=25,
)


def chain_of(store: Store) -> list[list[dict[str, Any]]]:
    names = [key for key in store.objects if key.endswith(".jsonl")]
    found = [[json.loads(line) for line in store.objects[key].splitlines()] for key in names]
    return sorted(found, key=lambda lines: lines[0]["sequence"])


def check(store: Store, delivered: list[str], *, everything: bool) -> None:
    chain, before = chain_of(store), None
    for number, (header, *_) in enumerate(chain, 1):
        assert header["sequence"] == number
        assert (header["previous"] or {}).get("sha256") == before
        key = Manifest.objects.get(sequence=number).key
        before = hashlib.sha256(store.objects[key]).hexdigest()
    listed = [line["key"] for lines in chain for line in lines[1:]]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(delivered)
    if everything:
        assert set(listed) == set(delivered)
        assert all(f"{each.key}.sig" in store.objects for each in Manifest.objects.all())
        days = [date.fromisoformat(lines[0]["day"]) for lines in chain]
        for day, following in itertools.pairwise(days):
            assert following <= day + timedelta(days=1), "no day is left out"


AHEAD_AND_BACK = [
    *[("deliver", 2), ("jump", 200), ("write", 10**6), ("jump", -190), ("deliver", 1), ("pass", 24), ("write", 10**6)],
    *[("deliver", 1), ("jump", -200), ("deliver", 1)],
]
KILLED_EVERYWHERE = [("deliver", 3), *[("write", number) for number in range(60)], ("deliver", 1)]


@pytest.mark.heavy
@example(history=AHEAD_AND_BACK)
@example(history=KILLED_EVERYWHERE)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_each_delivered_report_is_in_exactly_one_manifest(
    history: list[tuple[str, int]], interface: S3Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear()
    store, clock, delivered = Store(), START, list[str]()
    dashboard = Dashboard.objects.get_or_create(slug="sales")[0]
    if not interface.policies.exists():
        make_policy(interface)
    with monkeypatch.context() as patch:
        patch.setattr(S3Interface, "destination", lambda self: store)
        for what, number in history:
            if what == "deliver":
                delivered += [deliver(interface, dashboard, len(delivered) + each, clock) for each in range(number)]
            elif what in {"pass", "jump"}:
                clock += timedelta(hours=number)
            elif what == "rename":
                Dashboard.objects.update(title=f"title {number}")
            else:
                with killed_after(store, number):
                    manifests.write_due(clock, 60)
                check(store, delivered, everything=False)
        # Regardless of the clock's errors, everything is listed within three days.
        for _ in range(3):
            clock += timedelta(hours=24)
            manifests.write_due(clock, 60)
    check(store, delivered, everything=True)


def clear() -> None:
    Delivery.objects.all()._raw_delete("default")
    Manifest.objects.all().delete()
    Report.objects.all().delete()
