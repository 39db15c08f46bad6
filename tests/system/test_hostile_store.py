"""Whatever a store does, every operation ends in time, with bounded memory and disk use, and explains the problem."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from anaphora.deliveries import engine, files, rebuild, verification
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Report
from delivery_s3.connection import Connection
from delivery_s3.connection_test import runner
from delivery_s3.connection_test.runner import ConnectionTest
from delivery_s3.models import S3Interface
from tests.support.factories import make_connection, make_interface, make_policy, make_report
from tests.support.hostile_s3 import BEHAVIOURS, CONTENT, hostile
from tests.support.servers import S3Server

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.heavy,
    # An answer that violates the protocol is closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECONDS = 8
MEMORY = 64 * 1024**2


def test_there_are_enough_behaviours() -> None:
    assert len(BEHAVIOURS) >= 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use very short timeouts for connections, answers and connection tests."""
    fields = Connection.__dataclass_fields__
    assert (fields["connect_timeout"].default, fields["read_timeout"].default) == (10, 60)
    of_interface = S3Interface.connection

    def short(self: S3Interface, **changes: Any) -> Any:
        return of_interface(self, **({"connect_timeout": 0.5, "read_timeout": 0.5} | changes))

    monkeypatch.setattr(S3Interface, "connection", short)
    monkeypatch.setattr(runner, "DEADLINE", 4)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Check the bounds on time, memory and disk use."""
    before, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there = set(Path(django_settings.FILE_UPLOAD_TEMP_DIR).iterdir())
    yield
    assert time.monotonic() - before < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < MEMORY
    left = set(Path(django_settings.FILE_UPLOAD_TEMP_DIR).iterdir())
    assert left <= there, "no download stays on the disk"


@pytest.fixture(params=BEHAVIOURS)
def store(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with hostile(request.param) as server:
        yield server


def archived_at(store: S3Server) -> tuple[S3Interface, Report]:
    """Return an interface and a report that, according to its receipt, is only in the store."""
    interface = make_interface(store, "bucket")
    report = make_report(CONTENT)
    Delivery.objects.create(
        report=report, interface=interface, state=State.DELIVERED, object_key="sales/2026/a.pdf", size=report.size,
        sha256=report.sha256, etag="0123456789abcdef0123456789abcdef", delivered_at=report.ingested_at,
    )  # fmt: skip
    report.local_path.unlink()
    Report.objects.update(file="")
    return interface, Report.objects.get()


def deliver(store: S3Server) -> None:
    interface = make_interface(store, "bucket")
    make_policy(interface)
    make_report(CONTENT)
    engine.deliver_due(interface.pk)
    row = Delivery.objects.get()
    assert row.state in {State.PENDING, State.FAILED, State.DELIVERED}, "the row must not stay in sending"
    assert row.lease is None
    interface.refresh_from_db()
    for text in (row.detail, row.etag, row.version_id, interface.detail):
        assert text.isprintable()
        assert len(text) <= 1100


def read(store: S3Server) -> None:
    _, report = archived_at(store)
    for start, end in ((0, report.size), (9, 14)):
        shown = b""
        try:
            for chunk in files.read_stored(report, start, end):
                shown += chunk
        except (files.Unavailable, DeliveryError):
            pass
        else:
            assert shown == CONTENT[start:end]
        assert CONTENT[start:end].startswith(shown)


def verify(store: S3Server) -> None:
    interface, _ = archived_at(store)
    for full in (False, True):
        for finding in verification.verify(interface, full=full):
            assert finding.detail.isprintable()


def restore(store: S3Server) -> None:
    interface = make_interface(store, "bucket")
    try:
        for progress in rebuild.rebuild(interface):
            assert progress.restored == 0
    except DeliveryError as error:
        assert error.detail.isprintable()  # noqa: PT017


def test_button(store: S3Server) -> None:
    connection = make_connection(store, "bucket", connect_timeout=0.5, read_timeout=0.5)
    test = ConnectionTest(connection, prefix="")
    for step in test.steps():
        assert "internal" not in str(step.outcome)
    report = test.report()
    assert report.diagnosis is None or report.diagnosis.code != "internal"


test_button.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", [deliver, read, verify, restore, test_button], ids=lambda each: each.__name__)
def test_a_hostile_store_causes_a_clear_error_within_bounds(
    store: S3Server, operation: Callable[[S3Server], None], bounded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ.get("AWS_ENDPOINT_URL") is None
    operation(store)
