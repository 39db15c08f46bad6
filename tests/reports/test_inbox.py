"""The inbox, on a real folder."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection

from anaphora.deliveries.models import Delivery, State
from anaphora.reports import inbox, inbox_folders, ingest, tasks
from anaphora.reports.models import Report
from anaphora.reports.timestamps import instant_in_filename
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import make_policy

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    monkeypatch.setattr(django_settings, "INBOX_DIR", folder)
    monkeypatch.setattr(django_settings, "INBOX_SETTLE_SECONDS", 0)
    return folder


def put(box: Path, name: str = "sales/2026-03-01T0600Z.pdf", content: bytes = b"%PDF-1.7 x") -> Path:
    file = box / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def lying(box: Path) -> list[str]:
    return sorted(str(path.relative_to(box)) for path in box.rglob("*") if path.is_file())


def test_an_ingested_file_is_kept_or_deleted(box: Path) -> None:
    put(box)
    assert inbox.scan() == inbox.ScanResult(ingested=1)
    report = Report.objects.get()
    assert (report.dashboard.slug, report.filename) == ("sales", "2026-03-01T0600Z.pdf")
    assert report.rendered_at == datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert report.local_path.read_bytes() == b"%PDF-1.7 x"
    assert lying(box) == [".taken/sales/2026-03-01T0600Z.pdf"]
    assert inbox.scan() == inbox.ScanResult()


def test_without_a_time_in_its_name_the_modification_time_is_used(box: Path) -> None:
    os.utime(put(box, "sales/report.pdf"), (1_700_000_000, 1_700_000_000))
    inbox.scan()
    assert Report.objects.get().rendered_at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_only_complete_files_are_ingested(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "INBOX_SETTLE_SECONDS", 1)
    file = put(box, content=b"%PDF-1.7 ")
    os.utime(file, (1, 1))  # a copy that keeps the old time
    for name in (".sales.pdf.a1B2c3", "sales.pdf.part", "sales.pdf.tmp"):
        put(box, f"sales/{name}")
    for _ in range(6):
        with file.open("ab") as target:
            target.write(b"more")
        assert inbox.scan().ingested == 0
        time.sleep(0.3)
    time.sleep(1)
    assert inbox.scan().ingested == 1
    assert Report.objects.get().size == 9 + 6 * 4
    assert len(lying(box)) == 4


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("Sales 2026/report.pdf", b"%PDF-1.7", "dashboard"),
        ("sales/empty.pdf", b"", "file"),
        ("sales/program.pdf", b"\x7fELF\x00\x01", "file"),
    ],
)
def test_a_rejected_file_is_moved_aside_with_its_reason(
    box: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, field: str
) -> None:
    monkeypatch.setattr(django_settings, "INGEST_OTHER_TYPES", [])
    put(box, name, content)
    assert inbox.scan() == inbox.ScanResult(rejected=1)
    assert lying(box) == [f".rejected/{name}", f".rejected/{name}.reason.txt"]
    assert (box / f".rejected/{name}.reason.txt").read_text().startswith(f"{field}: ")
    assert not Report.objects.exists()


def test_a_temporary_problem_of_this_system_rejects_no_file(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box)
    put(box, "sales/2026-03-02.pdf")
    monkeypatch.setattr(django_settings, "MIN_FREE_MB", 10**9)
    assert inbox.scan() == inbox.ScanResult(unfinished=True)
    assert lying(box) == ["sales/2026-03-01T0600Z.pdf", "sales/2026-03-02.pdf"]
    monkeypatch.setattr(django_settings, "MIN_FREE_MB", 0)
    assert inbox.scan().ingested == 2


def test_a_file_with_a_time_in_the_future_is_ingested(box: Path) -> None:
    later = time.time() + 400 * 24 * 3600
    file = put(box)
    os.utime(file, (later, later))
    assert inbox.scan().ingested == 0, "a file that is still being written must be noticed first"
    assert inbox.scan().ingested == 1


def test_a_valid_modification_time_is_kept_if_only_ctime_is_in_the_future(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = datetime(2026, 3, 1, 6, tzinfo=UTC)
    file = put(box, "sales/report.pdf")
    os.utime(file, (written.timestamp(), written.timestamp()))
    with monkeypatch.context() as patch:
        before = time.time() - 400 * 24 * 3600  # the clock was set back since
        patch.setattr(time, "time", lambda: before + 300 * 24 * 3600)
        assert inbox.scan().ingested == 0
    assert inbox.scan().ingested == 1
    assert Report.objects.get().rendered_at == written


def test_a_file_claimed_by_a_killed_process_becomes_one_report(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_keep_or_delete", die)
        with pytest.raises(KeyboardInterrupt):
            inbox.scan()
    assert Report.objects.count() == 1
    assert [name.split("/")[0] for name in lying(box)] == [".taking"]
    assert inbox.scan() == inbox.ScanResult()
    monkeypatch.setattr(inbox, "CLAIM_TIMEOUT", timedelta(0))
    assert inbox.scan().ingested == 1
    assert Report.objects.count() == 1
    assert lying(box) == [".taken/sales/2026-03-01T0600Z.pdf"]


def test_the_same_name_twice_is_kept_twice(box: Path) -> None:
    put(box)
    inbox.scan()
    put(box, content=b"%PDF-1.7 another")
    inbox.scan()
    assert Report.objects.count() == 2
    assert len(lying(box)) == 2


def test_links_and_folders_are_ignored(box: Path) -> None:
    (box / "sales" / "deeper").mkdir(parents=True)
    (box / "sales" / "link.pdf").symlink_to("/etc/passwd")
    elsewhere = put(box.parent, "elsewhere/report.pdf")
    (box / "stock").symlink_to(elsewhere.parent)
    put(box, "top.pdf")
    assert inbox.scan() == inbox.ScanResult()
    assert elsewhere.exists()


def test_a_file_that_becomes_a_link_at_the_last_moment_is_not_followed(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = put(box.parent, "elsewhere/secret.csv", b"a,b\n1,2\n")
    add = inbox._add

    def swap_and_add(batch: ingest.Batch, file: Path) -> None:
        file.unlink()
        file.symlink_to(secret)
        add(batch, file)

    put(box)
    monkeypatch.setattr(inbox, "_add", swap_and_add)
    assert inbox.scan() == inbox.ScanResult(rejected=1)
    assert not Report.objects.exists()


def test_old_ingested_files_are_deleted(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box)
    inbox.scan()
    os.utime(box / ".taken/sales/2026-03-01T0600Z.pdf", (1, 1))
    inbox.scan()
    assert lying(box) == []
    monkeypatch.setattr(django_settings, "INBOX_KEEP_DAYS", 0)
    put(box)
    inbox.scan()
    assert lying(box) == []


@pytest.mark.parametrize("name", [".taken", ".taking", ".rejected"])
def test_a_link_in_place_of_an_inbox_folder_is_not_followed(
    box: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    precious = put(box.parent, "store/sales/precious.pdf")
    os.utime(precious, (1, 1))
    (box / name).symlink_to(precious.parent.parent)
    waiting = put(box)
    assert inbox.scan() == inbox.ScanResult()
    assert precious.exists()
    assert waiting.exists()
    assert "Remove it" in caplog.text


def test_a_link_inside_an_inbox_folder_is_not_followed(box: Path) -> None:
    precious = put(box.parent, "store/precious.pdf")
    os.utime(precious, (1, 1))
    (box / ".taken").mkdir()
    (box / ".taken" / "stock").symlink_to(precious.parent)
    (box / ".taken" / "sales").mkdir()
    (box / ".taken" / "sales" / "old.pdf").symlink_to(precious)
    os.utime(box / ".taken" / "sales" / "old.pdf", (1, 1), follow_symlinks=False)
    inbox.scan()
    assert precious.exists()
    assert not (box / ".taken" / "sales").exists(), "the link itself was old"


@pytest.mark.parametrize("kind", ["link", "file"])
@pytest.mark.parametrize("folder", [".taken", ".rejected"])
def test_a_file_in_place_of_an_inbox_folder_delays_no_other_files(
    box: Path, folder: str, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(django_settings, "INGEST_OTHER_TYPES", [])
    elsewhere = put(box.parent, "elsewhere/precious.pdf").parent
    (box / folder).mkdir()
    place = box / folder / "aaa"
    if kind == "link":
        place.symlink_to(elsewhere)
    else:
        place.write_bytes(b"in the way")
    put(box, "aaa/2026-03-01.pdf", b"%PDF-1.7 x" if folder == ".taken" else b"\x7fELF\x00\x01")
    for name in ("bbb", "ccc"):
        put(box, f"{name}/2026-03-01.pdf")
    inbox.scan()
    assert {"bbb", "ccc"} <= set(Report.objects.values_list("dashboard__slug", flat=True))
    assert [path.name for path in elsewhere.iterdir()] == ["precious.pdf"]
    assert "Remove the link or file that blocks" in caplog.text


def test_a_link_named_like_a_reason_file_is_not_overwritten(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "INGEST_OTHER_TYPES", [])
    database = put(box.parent, "elsewhere/database.sqlite3", b"rows")
    put(box, "sales/program.pdf", b"\x7fELF\x00\x01")
    (box / ".rejected" / "sales").mkdir(parents=True)
    (box / ".rejected" / "sales" / "program.pdf.reason.txt").symlink_to(database)
    assert inbox.scan().rejected == 1
    assert database.read_bytes() == b"rows"
    written = [path for path in (box / ".rejected" / "sales").iterdir() if path.is_file() and not path.is_symlink()]
    assert any(path.read_bytes().startswith(b"file: ") for path in written)


def test_an_unreadable_folder_delays_no_other(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "forbidden/2026-03-01.pdf")
    put(box)
    opened = inbox_folders.open_folder

    def refuse(folder: Path, **options: Any) -> Any:
        if folder.name == "forbidden":
            raise PermissionError(13, "Permission denied")
        return opened(folder, **options)

    monkeypatch.setattr(inbox_folders, "open_folder", refuse)  # not by permissions, because the tests may run as root
    assert inbox.scan() == inbox.ScanResult(ingested=1)


def test_a_folder_removed_during_a_scan_is_created_again(box: Path) -> None:
    one, other = put(box, "sales/one.pdf"), put(box, "sales/other.pdf")
    with inbox_folders.folders_kept_open():
        inbox_folders.rename_file(one, box / ".taken" / "one.pdf").unlink()
        (box / ".taken").rmdir()
        inbox_folders.rename_file(other, box / ".taken" / "other.pdf")
    assert lying(box) == [".taken/other.pdf"]


def test_a_scan_of_many_folders_keeps_few_open_and_none_at_the_end(box: Path) -> None:
    put(box)
    inbox.scan()  # which opens the database
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(100):
        put(box, f"dashboard-{number}/2026-03-01.pdf", b"%%PDF-1.7 %d" % number)
    assert inbox.scan() == inbox.ScanResult(ingested=100)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_the_name_of_a_refused_file_can_be_invalid_utf_8(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "INGEST_OTHER_TYPES", [])
    (box / "sales").mkdir()
    (box / "sales" / os.fsdecode(b"M\xe4rz.pdf")).write_bytes(b"\x7fELF\x00\x01")
    put(box)
    assert inbox.scan() == inbox.ScanResult(ingested=1, rejected=1)


def test_a_database_that_fails_leaves_the_file_where_it_was(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box)

    def fail(batch: ingest.Batch) -> Any:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(ingest.Batch, "commit", fail)
        assert inbox.scan() == inbox.ScanResult(unfinished=True)
    assert lying(box) == ["sales/2026-03-01T0600Z.pdf"]
    assert inbox.scan().ingested == 1


def test_a_named_pipe_does_not_block_the_scan(box: Path) -> None:
    (box / "sales").mkdir()
    os.mkfifo(box / "sales" / "pipe.pdf")
    put(box)
    assert inbox.scan().ingested == 1


@pytest.mark.django_db(transaction=True)
def test_several_scans_ingest_each_file_once(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        put(box, f"sales/2026-03-01T06{number:02}Z.pdf", f"%PDF-1.7 {number}".encode())
    calls: list[str] = []

    add = ingest.Batch.add

    def add_and_note(batch: ingest.Batch, **values: Any) -> None:
        calls.append(values["filename"])
        add(batch, **values)

    monkeypatch.setattr(ingest.Batch, "add", add_and_note)

    in_threads(3, inbox.scan)
    assert sorted(calls) == sorted(set(calls))
    assert Report.objects.count() == 60


@pytest.mark.heavy
@pytest.mark.django_db(transaction=True)
def test_scans_that_remove_folders_do_not_disturb_each_other(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan removes empty folders at its end, which another scan may be reading or may just have created."""
    monkeypatch.setattr(inbox, "CLAIM_TIMEOUT", timedelta())

    def take() -> None:
        for number in range(20):
            written = put(box, f"{threading.get_ident()}/2026-03-01T06{number:02}Z.pdf.tmp")
            written.rename(written.with_suffix(""))
            inbox.scan()

    in_threads(4, take)
    inbox.scan()
    assert Report.objects.count() == 80
    assert {name.split("/")[0] for name in lying(box)} == {".taken"}


def in_threads(number: int, work: Callable[[], object]) -> None:
    """Run `work` in this many threads, each with its own database connection. Raises the exceptions of the threads."""

    def work_and_close() -> None:
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        for future in [pool.submit(work_and_close) for _ in range(number)]:
            future.result()


def test_the_task_ingests_and_a_worker_delivers(box: Path, interface: S3Interface, bucket: Bucket) -> None:
    from anaphora.deliveries.engine import deliver_due

    make_policy(interface)
    put(box)
    tasks.scan_inbox()
    deliver_due(interface.pk)
    assert Delivery.objects.get().state == State.DELIVERED
    assert bucket.read(bucket.keys()[0]) == b"%PDF-1.7 x"


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("sales-20260301T060000Z.pdf", "2026-03-01T06:00:00+00:00"),
        ("2026-03-01T06-30Z.pdf", "2026-03-01T06:30:00+00:00"),
        ("2026-03-01_0630+0100 weekly.pdf", "2026-03-01T05:30:00+00:00"),
        ("2026-03-01 06.30.15.pdf", "2026-03-01T05:30:15+00:00"),
        ("weekly-2026-07-01-0630.pdf", "2026-07-01T04:30:00+00:00"),
        ("2026-03-01.pdf", "2026-02-28T23:00:00+00:00"),
        ("99999999-2026-03-01.pdf", "2026-02-28T23:00:00+00:00"),
        ("2026-10-25T0230.pdf", "2026-10-25T00:30:00+00:00"),
        ("report 2026-13-45.pdf", None),
        ("invoice 1234567890.pdf", None),
        ("report.pdf", None),
    ],
)
def test_a_file_name_can_contain_the_time(name: str, moment: str | None) -> None:
    found = instant_in_filename(name, BERLIN)
    assert (found.isoformat() if found else None) == moment
