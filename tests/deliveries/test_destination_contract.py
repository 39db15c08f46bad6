"""The promises of the engine for every kind of destination: the same tests run with S3 and with a folder."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from anaphora.deliveries import engine, files, housekeeping, queue
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, State
from anaphora.deliveries.outcomes import Drained
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.folder_destination.models import FolderInterface
from tests.support import servers
from tests.support.buckets import Bucket
from tests.support.factories import NOON, make_interface, make_policy, make_report
from tests.support.processes import ROOT, worker_environment
from tests.support.servers import S3Server

pytestmark = pytest.mark.django_db(transaction=True)


class Store(ABC):
    """One interface, with methods that read and change its store independently of the code under test."""

    interface: Interface

    @abstractmethod
    def keys(self) -> list[str]: ...

    @abstractmethod
    def read(self, key: str) -> bytes: ...

    @abstractmethod
    def overwrite(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def remove(self, key: str) -> None: ...

    @abstractmethod
    def take_away(self) -> None:
        """Make the whole store unreachable."""

    @abstractmethod
    def bring_back(self) -> None: ...


class S3Store(Store):
    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.interface = make_interface(bucket.server, bucket.name, name="archive")

    def keys(self) -> list[str]:
        return self.bucket.keys()

    def read(self, key: str) -> bytes:
        return self.bucket.read(key)

    def overwrite(self, key: str, content: bytes) -> None:
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=key)

    def take_away(self) -> None:
        S3Interface.objects.update(endpoint_url=f"http://127.0.0.1:{servers.free_port()}")

    def bring_back(self) -> None:
        S3Interface.objects.update(endpoint_url=self.bucket.server.endpoint)


class FolderStore(Store):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.interface = FolderInterface.objects.create(name="archive", folder=str(folder))

    def keys(self) -> list[str]:
        found = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def overwrite(self, key: str, content: bytes) -> None:
        (self.folder / key).write_bytes(content)

    def remove(self, key: str) -> None:
        (self.folder / key).unlink()

    def take_away(self) -> None:
        self.folder.rename(self.folder.with_name("away"))

    def bring_back(self) -> None:
        self.folder.with_name("away").rename(self.folder)


@pytest.fixture(params=["s3", "folder"])
def store(
    request: pytest.FixtureRequest,
    s3: S3Server,
    moto: S3Server,
    make_bucket: Callable[..., Bucket],
    tmp_path: Path,
) -> Iterator[Store]:
    if request.param == "folder":
        yield FolderStore(tmp_path / "store")
    else:
        # rclone keeps no metadata, from which an index is rebuilt.
        yield S3Store(make_bucket(moto if s3.kind == "rclone" else s3))
    shutil.rmtree(tmp_path / "store", ignore_errors=True)


def deliver(store: Store) -> Drained:
    return engine.deliver_due(store.interface.pk, ignore_pause=True)


def test_reports_arrive_byte_for_byte_with_a_receipt(store: Store) -> None:
    make_policy(store.interface)
    contents = [os.urandom(1000 + number) for number in range(60)]
    reports = [make_report(content, rendered_at=NOON + timedelta(hours=n)) for n, content in enumerate(contents)]
    assert deliver(store).delivered == 60
    for report, content in zip(reports, contents, strict=True):
        row = report.deliveries.get()
        assert store.read(row.object_key) == content
        assert (row.size, row.sha256, row.etag) == (report.size, report.sha256, report.md5)
    assert len(store.keys()) == 60


def test_an_unreachable_store_pauses_the_interface_and_counts_no_attempt(store: Store) -> None:
    make_policy(store.interface)
    make_report(b"content")
    store.take_away()
    assert not deliver(store).complete
    interface = Interface.objects.get()
    assert interface.paused_until is not None
    assert interface.diagnosis
    assert set(Delivery.objects.values_list("state", "attempts")) == {(State.PENDING, 0)}
    store.bring_back()
    assert deliver(store).complete
    assert Interface.objects.get().diagnosis == ""


def test_an_existing_object_gets_its_receipt_and_other_content_is_not_overwritten(store: Store) -> None:
    make_policy(store.interface)
    report = make_report(b"content")
    deliver(store)
    key = Delivery.objects.get().object_key
    Delivery.objects.all()._raw_delete("default")  # as if the database had been restored to an earlier day
    Delivery.objects.create(report=report, interface_id=store.interface.pk)
    assert deliver(store).delivered == 1
    assert store.keys() == [key]


@pytest.mark.heavy
def test_a_killed_process_causes_no_loss_and_no_duplicates(store: Store) -> None:
    make_policy(store.interface)
    for number in range(120):
        make_report(os.urandom(20_000), rendered_at=NOON + timedelta(minutes=number))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "deliver_due"], cwd=ROOT, env=worker_environment(), stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not store.keys():
        assert time.monotonic() < end
    process.send_signal(signal.SIGKILL)
    process.wait()
    Delivery.objects.filter(state=State.SENDING).update(leased_until=timezone.now() - timedelta(seconds=1))
    assert deliver(store).complete
    assert len(store.keys()) == 120
    for row in Delivery.objects.select_related("report"):
        assert row.state == State.DELIVERED
        assert store.read(row.object_key) == row.report.local_path.read_bytes()


def test_without_its_local_copy_a_report_is_shown_from_the_store(store: Store, admin_client: Client) -> None:
    make_policy(store.interface)
    report = make_report(b"a,b\n1,2\n", filename="sales.csv")
    deliver(store)
    Dashboard.objects.update(keep_local_days=1)
    assert housekeeping.run_housekeeping(timezone.now() + timedelta(days=2)).reports == 1
    assert not report.local_path.exists()
    out = io.StringIO()
    call_command("as_of", "sales", "2026-03-02", "--json", stdout=out)
    assert json.loads(out.getvalue())["sha256"] == report.sha256
    page = admin_client.get(reverse("timeline-as-of", args=["sales"])).content.decode()
    assert store.interface.place in page
    answer = admin_client.get(reverse("report-file", args=[report.pk]))
    assert b"".join(answer.streaming_content) == b"a,b\n1,2\n"  # type: ignore[attr-defined]
    part = admin_client.get(reverse("report-file", args=[report.pk]), headers={"Range": "bytes=2-4"})
    assert b"".join(part.streaming_content) == b"b\n1"  # type: ignore[attr-defined]


def test_an_archived_report_can_be_delivered_to_another_interface(store: Store, tmp_path: Path) -> None:
    make_policy(store.interface)
    report = make_report(b"content")
    deliver(store)
    Dashboard.objects.update(keep_local_days=1)
    housekeeping.run_housekeeping(timezone.now() + timedelta(days=2))
    (tmp_path / "second").mkdir()
    second = FolderInterface.objects.create(name="second", folder=str(tmp_path / "second"))
    call_command("backfill", make_policy(second).name, stdout=io.StringIO())
    assert engine.deliver_due(second.pk).delivered == 1
    assert (tmp_path / "second" / report.deliveries.get(interface=second).object_key).read_bytes() == b"content"


def test_a_forged_object_is_not_shown(store: Store) -> None:
    make_policy(store.interface)
    report = make_report(b"content")
    deliver(store)
    report.local_path.unlink()
    store.overwrite(Delivery.objects.get().object_key, b"CONTENT")
    with pytest.raises(files.Unavailable, match="not the report"):
        b"".join(files.read_stored(report, 0, report.size))


def test_verification_names_missing_and_changed_objects(store: Store) -> None:
    make_policy(store.interface)
    for number in range(3):
        make_report(f"report {number}".encode())
    deliver(store)
    missing, changed, _ = [row.object_key for row in Delivery.objects.order_by("pk")]
    store.remove(missing)
    store.overwrite(changed, b"REPORT X")
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("verify_archive", stdout=out)
    lines = out.getvalue().splitlines()
    assert (lines[0].split()[0], lines[1].split()[0]) == ("missing", "changed")
    assert lines[2] == "1 same, 1 missing, 1 changed, 0 unreadable"


def test_the_index_is_rebuilt_from_the_store_alone(store: Store) -> None:
    make_policy(store.interface)
    for number in range(5):
        make_report(f"report {number}".encode(), filename=f"Umsätze {number}.pdf")
    deliver(store)
    fields = ("object_key", "sha256", "size", "etag", "report__filename", "report__rendered_at", "report__md5")
    before = sorted(Delivery.objects.values_list(*fields))
    models: tuple[type[Model], ...] = (Delivery, ArchivePolicy, Report)
    for model in models:
        model._default_manager.all()._raw_delete("default")
    Dashboard.objects.all().delete()
    call_command("rebuild_index", store.interface.name, stdout=io.StringIO())
    assert sorted(Delivery.objects.values_list(*fields)) == before


def test_its_pages_and_the_list_of_all_interfaces_link_to_each_other(store: Store, admin_client: Client) -> None:
    make_policy(store.interface)
    make_report(b"content")
    everything = admin_client.get(reverse("admin:deliveries_interface_changelist")).content.decode()
    assert store.interface.admin_url in everything
    assert store.interface.place in everything
    through = admin_client.get(reverse("admin:deliveries_interface_change", args=[store.interface.pk]), follow=True)
    assert (through.status_code, through.redirect_chain[-1][0]) == (200, store.interface.admin_url)
    delivery = admin_client.get(Delivery.objects.get().admin_url).content.decode()
    assert reverse("admin:deliveries_interface_change", args=[store.interface.pk]) in delivery
    assert queue.interfaces_with_due_work() == [store.interface.pk]
