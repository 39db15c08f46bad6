import errno
import hashlib
import io
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from anaphora.deliveries.models import Delivery
from anaphora.reports import ingest as module
from anaphora.reports.ingest import Batch, IngestError, Reason, ingest
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.signals import report_ingested
from delivery_s3.models import S3Interface
from tests.support.factories import NOON, make_policy, make_report

pytestmark = pytest.mark.django_db


def take(content: bytes = b"%PDF-1.7 x", **changes: Any) -> module.Ingested:
    values: dict[str, Any] = {
        "source": io.BytesIO(content),
        "filename": "sales.pdf",
        "dashboard": "sales",
        "rendered_at": NOON,
    }
    return ingest(**(values | changes))


def local_files() -> list[Path]:
    return [path for path in (settings.DATA_DIR / "reports").rglob("*") if path.is_file()]


def nothing_is_left_behind() -> bool:
    return not local_files() and not Report.objects.exists() and not Dashboard.objects.exists()


def test_a_report_keeps_its_bytes_digests_and_instant() -> None:
    content = b"%PDF-1.7" + os.urandom(3_000_000)
    eastern = timezone(timedelta(hours=-5))
    result = take(content, rendered_at=datetime(2026, 3, 1, 9, 30, 15, 999_999, tzinfo=eastern))
    report = Report.objects.get()
    assert result.created
    assert result.report == report
    assert report.local_path.read_bytes() == content
    assert report.size == len(content)
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    assert report.md5 == hashlib.md5(content).hexdigest()
    assert report.rendered_at == datetime(2026, 3, 1, 14, 30, 15, tzinfo=UTC)
    assert report.content_type == "application/pdf"
    assert report.dashboard.slug == "sales"


def test_the_same_report_twice_is_one_report() -> None:
    first, second = take(), take(filename="another name.pdf")
    assert (first.created, second.created) == (True, False)
    assert first.report == second.report
    assert len(local_files()) == 1


def test_other_content_instant_or_dashboard_make_another_report() -> None:
    take()
    take(b"other")
    take(rendered_at=NOON + timedelta(seconds=1))
    take(dashboard="stock")
    assert Report.objects.count() == 4
    assert len(local_files()) == 4


def test_a_lost_local_copy_is_replaced_by_the_same_report_coming_in_again() -> None:
    report = take(b"content").report
    report.local_path.unlink()
    assert not take(b"content").created
    assert Report.objects.get().local_path.read_bytes() == b"content"


def test_the_file_comes_from_where_the_source_stands() -> None:
    source = io.BytesIO(b"head body")
    source.seek(5)
    assert take(source=source).report.local_path.read_bytes() == b"body"


def test_report_and_pending_deliveries_appear_together(interface: S3Interface) -> None:
    make_policy(interface)
    report = take().report
    delivery = Delivery.objects.get()
    assert (delivery.report, delivery.interface_id, delivery.state) == (report, interface.pk, "pending")


def test_a_batch_of_nothing_commits_nothing() -> None:
    with CaptureQueriesContext(connection) as queries, Batch() as batch:
        assert batch.commit() == []
    assert not queries.captured_queries


def test_a_failing_receiver_undoes_the_report() -> None:
    def refuse(**kwargs: Any) -> None:
        raise RuntimeError("a delivery app has a bug")

    report_ingested.connect(refuse)
    try:
        with pytest.raises(RuntimeError), transaction.atomic():
            take()
    finally:
        report_ingested.disconnect(refuse)
    assert nothing_is_left_behind()


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"source": io.BytesIO(b"")}, "file", "empty"),
        ({"rendered_at": datetime(2026, 3, 1)}, "rendered_at", "time zone"),
        ({"rendered_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, "rendered_at", "1970"),
        ({"rendered_at": datetime.max.replace(tzinfo=UTC)}, "rendered_at", "clock"),
        ({"rendered_at": datetime.now(UTC) + timedelta(days=2)}, "rendered_at", "clock"),
        ({"dashboard": "Sales 2026"}, "dashboard", "letters, digits"),
        ({"dashboard": ""}, "dashboard", "letters, digits"),
        ({"dashboard": "../etc"}, "dashboard", "letters, digits"),
        ({"dashboard": "x" * 101}, "dashboard", "100"),
        ({"filename": ""}, "filename", "is not a file name"),
        ({"filename": "reports/.."}, "filename", "is not a file name"),
        ({"filename": "ü" * 128}, "filename", "255 bytes"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(IngestError, match=words) as caught:
        take(**changes)
    assert caught.value.field == field
    assert nothing_is_left_behind()


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.INGEST_MAX_BYTES == 5 * 1024**3
    monkeypatch.setattr(settings, "INGEST_MAX_BYTES", 1000)
    with pytest.raises(IngestError, match="1,000 bytes") as caught:
        take(b"x" * 1001)
    assert caught.value.reason is Reason.TOO_LARGE
    assert nothing_is_left_behind()
    assert take(b"x" * 1000).created


def test_a_source_that_breaks_off_leaves_nothing() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().read(4)

    with pytest.raises(IngestError, match="cannot be read") as caught:
        take(source=Broken(b"12345678"))
    assert caught.value.field == "file"
    assert nothing_is_left_behind()


def test_a_full_disk_is_named_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # What can't be had: a full disk. The error comes from the call where a real one's comes from.
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("anaphora.reports.ingest.os.fsync", fsync)
    with pytest.raises(IngestError, match="disk is full"):
        take()
    assert nothing_is_left_behind()


def test_a_local_store_that_cannot_be_written_is_named() -> None:
    (settings.DATA_DIR / "reports").mkdir(exist_ok=True)
    (settings.DATA_DIR / "reports" / "sales").write_text("a file where the folder should be")
    with pytest.raises(IngestError, match="DATA_DIR"):
        take()
    assert not Report.objects.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\reports\Umsatz März.PDF", "Umsatz März.PDF"),
        (".hidden", ".hidden"),
        ("📈.png", "📈.png"),
        ("a\nb\x00.pdf", "a_b_.pdf"),
        ("bad\udcff.pdf", "bad_.pdf"),
        ("x" * 251 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_names_are_kept_without_their_folder(given: str, kept: str) -> None:
    report = take(filename=given).report
    report.refresh_from_db()
    assert report.filename == kept
    assert report.local_path.is_relative_to(settings.DATA_DIR / "reports" / "sales" / "2026" / "03")


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.PDF", ".pdf"), ("a.tar.gz", ".gz"), ("a", ""), ("a.p df", ""), ("a." + "x" * 11, "")]
)
def test_only_a_plain_ending_of_an_unknown_content_is_taken_over(name: str, suffix: str) -> None:
    content = b"%PDF-1.7" if name.endswith("PDF") else b"\x00\x01"
    assert make_report(content, filename=name).suffix == suffix


def test_what_is_none_of_the_kinds_is_refused_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "INGEST_OTHER_TYPES", [])
    with pytest.raises(IngestError, match="INGEST_OTHER_TYPES") as caught:
        take(b"\x00\x01\x02", filename="a.pdf")
    assert caught.value.reason is Reason.UNSUPPORTED
    assert nothing_is_left_behind()
    monkeypatch.setattr(settings, "INGEST_OTHER_TYPES", ["text/plain"])
    assert take(b"words", filename="a.txt").report.content_type == "text/plain"


def test_a_file_is_taken_as_what_it_is() -> None:
    report = take(b"\x89PNG\r\n\x1a\n and so on", filename="sales.pdf").report
    assert (report.content_type, report.suffix, report.filename) == ("image/png", ".png", "sales.pdf")


def test_a_disk_that_is_nearly_full_is_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MIN_FREE_MB", 10**9)
    with pytest.raises(IngestError, match="MIN_FREE_MB") as caught:
        take()
    assert caught.value.reason is Reason.NO_SPACE
    assert caught.value.reason.temporary
    assert nothing_is_left_behind()
