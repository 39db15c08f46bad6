"""The index comes back from the bucket, and catalogues make a listing unnecessary."""

import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.utils import timezone

from anaphora.deliveries import engine, irregularities, manifest_lines, rebuild_manifests, rebuild_rows, signing
from anaphora.deliveries.manifest_models import Irregularity, Manifest, SigningKey
from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.archives import FIRST, deliver_on, moment, write
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.samples import NAMES
from tests.support.servers import Fault, S3Server

pytestmark = pytest.mark.django_db

REPORT = [field.name for field in Report._meta.fields if field.name not in {"preview", "pages"}]
RECEIPT = ["report_id", "interface_id", "state", "object_key", "version_id", "etag", "sha256", "size", "integrity"]


def rows() -> tuple[Any, ...]:
    return (
        list(Dashboard.objects.order_by("slug").values_list("slug", "title")),
        [dict(row, dashboard="") for row in Report.objects.order_by("pk").values(*REPORT)],
        list(Delivery.objects.order_by("report_id").values_list(*RECEIPT)),
    )


def listed(bucket: Bucket) -> list[str]:
    return bucket.keys()


def forget() -> None:
    """Lose what the index holds, but for the interface."""
    Delivery.objects.all()._raw_delete("default")
    Report.objects.all().delete()
    Dashboard.objects.all().delete()


def run(name: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("rebuild_index", name, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


@pytest.fixture
def bucket(s3: S3Server, moto: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    """On a server that keeps metadata: rclone's buckets are folders, which have none."""
    return make_bucket(moto if s3.kind == "rclone" else s3)


@pytest.fixture
def archive(interface: S3Interface) -> S3Interface:
    """Reports of all kinds of names in a bucket, of two dashboards, one with a title."""
    make_policy(interface)
    Dashboard.objects.create(slug="sales", title="Umsätze & more")
    for number, name in enumerate(NAMES):
        make_report(
            f"%PDF-1.7 {number}".encode(),
            filename=name.format("pdf"),
            dashboard="sales" if number % 3 else "stock",
            rendered_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=7 * number),
        )
    assert engine.deliver_due(interface.pk).complete
    return interface


def test_everything_is_as_before(archive: S3Interface) -> None:
    before = rows()
    forget()
    assert f"{len(NAMES)} restored, 0 known, 0 manifests and tests, 0 unclear" in run(archive.name)
    assert rows() == before
    for row in Delivery.objects.all():
        assert row.delivered_at is not None
        assert abs(row.delivered_at - timezone.now()) < timedelta(minutes=10)


def test_again_changes_nothing_and_asks_for_nothing(archive: S3Interface, bucket: Bucket) -> None:
    before = rows()
    seen: list[str] = []

    def watch(method: str, path: str) -> Fault:
        seen.append(method)
        return Fault.NONE

    with servers.in_front_of(bucket.server, watch) as endpoint:
        S3Interface.objects.update(endpoint_url=endpoint, ca_bundle="")
        assert f"0 restored, {len(NAMES)} known" in run(archive.name)
    assert rows() == before
    assert seen == ["GET", "GET"], "one page of each listing: of the manifests, and of everything"


def test_broken_off_it_goes_on(archive: S3Interface, bucket: Bucket) -> None:
    before = rows()
    forget()
    asked = 0

    def fail_later(method: str, path: str) -> Fault:
        nonlocal asked
        asked += method == "HEAD"
        return Fault.ANSWER_500 if asked > 5 else Fault.NONE

    with servers.in_front_of(bucket.server, fail_later) as endpoint:
        S3Interface.objects.update(endpoint_url=endpoint, ca_bundle="")
        assert "Error inside the store" in run(archive.name)
    S3Interface.objects.update(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(CommandError, match=r"s3:GetObject.*run it again"):
        run(archive.name)
    S3Interface.objects.update(endpoint_url=bucket.server.endpoint, ca_bundle=bucket.server.ca_bundle)
    run(archive.name)
    assert rows() == before


def test_part_of_it_is_restored_where_part_is_there(archive: S3Interface) -> None:
    before = rows()
    gone = Delivery.objects.filter(report__dashboard__slug="stock")
    reports = list(gone.values_list("report_id", flat=True))
    gone._raw_delete("default")
    Report.objects.filter(pk__in=reports).delete()
    found = json.loads(run(archive.name, json=True))
    assert found == {"seen": len(NAMES), "restored": len(reports), "known": len(NAMES) - len(reports), "others": 0}
    assert rows() == before


def test_what_it_cannot_make_out_it_lists(archive: S3Interface, bucket: Bucket) -> None:
    key = Delivery.objects.order_by("pk")[0].object_key
    metadata = bucket.client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
    put: dict[str, Any] = {"Bucket": bucket.name, "Body": b"%PDF-1.7 x", "ContentType": "application/pdf"}
    bucket.client.put_object(**put, Key="holiday.jpg")
    bucket.client.put_object(**put, Key="sales/2026/03/01/20260301T120000Z_0123456789abcdef.pdf")
    bucket.client.put_object(**put, Key="sales/2026/03/01/20260301T990000Z_0123456789abcdef.pdf")
    twin = key.replace("20260301", "20260901").replace("/2026/03/", "/2026/09/")
    later = metadata | {"rendered-at": metadata["rendered-at"].replace("2026-03-01", "2026-09-01")}
    bucket.client.put_object(**put, Key=twin, Metadata=later)
    before = rows()
    forget()
    lines = run(archive.name).splitlines()
    told = dict(line.split("  ", 1) for line in lines[:-1])
    assert told == {
        "holiday.jpg": "Not the key of a report.",
        "sales/2026/03/01/20260301T120000Z_0123456789abcdef.pdf": "It does not have the metadata of a report.",
        "sales/2026/03/01/20260301T990000Z_0123456789abcdef.pdf": "It does not have the metadata of a report.",
        twin: f"Another report has its ID, {metadata['report-id']}.",
    }
    assert rows() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rendered-at": "0001-01-01T00:00:00+14:00"}, "can't be read"),
        ({"rendered-at": "9999-12-31T23:59:59-14:00"}, "can't be read"),
        ({"rendered-at": "2999-01-01T00:00:00Z"}, "rendered at 2999"),
        ({"ingested-at": "9999-12-31T23:59:59-14:00"}, "can't be read"),
        ({"title": "a%00b"}, "title"),
        ({"filename": "..%2F..%2Fetc%2Fpasswd"}, "name no file"),
        ({"filename": "a%5Cb"}, "name no file"),
        ({}, "It is empty"),
    ],
)
def test_one_object_stops_nothing(archive: S3Interface, bucket: Bucket, changes: dict[str, str], reason: str) -> None:
    key = Delivery.objects.order_by("pk")[0].object_key
    metadata = bucket.client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
    twin = f"aaa/{key.partition('/')[2]}"
    told = metadata | {"dashboard": "aaa", "report-id": str(uuid4())} | changes
    body = b"" if not changes else b"%PDF-1.7 x"
    bucket.client.put_object(Bucket=bucket.name, Key=twin, Body=body, ContentType="application/pdf", Metadata=told)
    before = rows()
    forget()
    lines = run(archive.name).splitlines()
    assert [line for line in lines if line.startswith(f"{twin}  ") and reason in line]
    assert rows() == before


def test_one_object_that_the_store_refuses_stops_nothing(archive: S3Interface, bucket: Bucket) -> None:
    before = rows()
    refused = Delivery.objects.order_by("object_key")[0].object_key

    def fail_one(method: str, path: str) -> Fault:
        return Fault.ANSWER_500 if method == "HEAD" and path.endswith(refused) else Fault.NONE

    forget()
    with servers.in_front_of(bucket.server, fail_one) as endpoint:
        S3Interface.objects.update(endpoint_url=endpoint, ca_bundle="")
        assert f"{refused}  Error inside the store" in run(archive.name)
    assert Report.objects.count() == len(before[1]) - 1


def test_what_the_database_refuses_is_listed_and_costs_no_other(
    archive: S3Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows()
    refused = Delivery.objects.order_by("pk")[0].object_key
    make = rebuild_rows._report_row

    def fail(each: Any, *arguments: Any) -> Any:
        if each.key == refused:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return make(each, *arguments)

    forget()
    monkeypatch.setattr(rebuild_rows, "_report_row", fail)
    assert f"{refused}  It cannot be stored in the database" in run(archive.name)
    assert Report.objects.count() == len(before[1]) - 1


def test_a_report_that_came_in_anew_gets_the_receipt(archive: S3Interface) -> None:
    row = Delivery.objects.select_related("report__dashboard").order_by("pk")[1]
    key, content = row.object_key, row.report.local_path.read_bytes()
    values = {"dashboard": row.report.dashboard.slug, "rendered_at": row.report.rendered_at}
    forget()
    again = make_report(content, filename="again.pdf", **values)
    Delivery.objects.filter(report=again)._raw_delete("default")
    run(archive.name)
    assert Delivery.objects.get(report=again).object_key == key


def test_a_report_that_waits_to_be_delivered_anew_is_left_to_the_queue(archive: S3Interface) -> None:
    row = Delivery.objects.select_related("report__dashboard").order_by("pk")[1]
    content = row.report.local_path.read_bytes()
    values = {"dashboard": row.report.dashboard.slug, "rendered_at": row.report.rendered_at}
    forget()
    again = make_report(content, filename="again.pdf", **values)
    assert f"{len(NAMES) - 1} restored" in run(archive.name)
    assert Delivery.objects.get(report=again).state == State.PENDING
    assert Report.objects.count() == len(NAMES)


def test_objects_copied_to_another_bucket_become_receipts_of_another_interface(
    archive: S3Interface, bucket: Bucket, make_bucket: Callable[..., Bucket]
) -> None:
    copies = make_bucket(bucket.server)
    for key in listed(bucket):
        copies.client.copy_object(Bucket=copies.name, Key=key, CopySource={"Bucket": bucket.name, "Key": key})
    other = make_interface(bucket.server, copies.name)
    assert f"{len(NAMES)} restored" in run(other.name)
    assert Report.objects.count() == len(NAMES)
    for report in Report.objects.all():
        receipts = Delivery.objects.filter(report=report, state=State.DELIVERED)
        assert len({(row.interface_id, row.object_key) for row in receipts}) == 2
    engine.deliver_due(other.pk)
    assert copies.keys() == bucket.keys()


def test_a_key_that_may_only_write_is_told_what_it_takes(interface: S3Interface) -> None:
    S3Interface.objects.update(bucket_name="there-is-none")
    with pytest.raises(CommandError, match="Rebuilding needs s3:ListBucket"):
        run(interface.name)
    with pytest.raises(CommandError, match="no interface named"):
        run("another")


def test_locked_versions_come_back_with_their_retention(moto: S3Server, make_bucket: Callable[..., Bucket]) -> None:
    bucket = make_bucket(moto, ObjectLockEnabledForBucket=True)
    interface = make_interface(moto, bucket.name, object_lock_mode="GOVERNANCE", retention_days=3)
    make_policy(interface)
    make_report()
    assert engine.deliver_due(interface.pk).complete
    before = Delivery.objects.values("version_id", "retain_until", "integrity").get()
    assert before["version_id"]
    assert before["retain_until"]
    forget()
    run(interface.name)
    assert Delivery.objects.values("version_id", "retain_until", "integrity").get() == before


class LostError(Exception):
    """The process is gone."""


@contextmanager
def lost_after(queries: int) -> Iterator[None]:
    """Let a process die at that query, but those that end a transaction."""
    left = queries

    def count(execute: Any, sql: str, *arguments: Any) -> Any:
        nonlocal left
        left -= "SAVEPOINT" not in sql
        if left < 0 and "SAVEPOINT" not in sql:
            raise LostError
        return execute(sql, *arguments)

    with database.execute_wrapper(count):
        yield


class TestManifests:
    """What manifests list comes back without asking for each object."""

    @pytest.fixture
    def days(self, archive: S3Interface) -> S3Interface:
        """The archive with three days of manifests, the last of which lists nothing, and two reports after them."""
        interface = archive
        rows = list(Delivery.objects.order_by("pk"))
        for number, row in enumerate(rows):
            Delivery.objects.filter(pk=row.pk).update(delivered_at=moment(FIRST + timedelta(days=number % 2)))
        irregularities.record_irregularity("dashboard late", interface, at=moment(FIRST), dashboard="sales")
        write(interface, FIRST + timedelta(days=2))
        deliver_on(interface, FIRST + timedelta(days=3), 2)
        return interface

    def watched(self, interface: S3Interface, bucket: Bucket) -> tuple[str, list[str]]:
        """Rebuild; return what was printed, and the reports that the store was asked for."""
        asked: list[str] = []

        def watch(method: str, path: str) -> Fault:
            if method == "HEAD" and path.endswith(".pdf"):
                asked.append(path)
            return Fault.NONE

        with servers.in_front_of(bucket.server, watch) as endpoint:
            S3Interface.objects.update(endpoint_url=endpoint, ca_bundle="")
            printed = run(interface.name)
        S3Interface.objects.update(endpoint_url=bucket.server.endpoint, ca_bundle=bucket.server.ca_bundle)
        return printed, asked

    def forget_all(self) -> None:
        Delivery.objects.update(manifest=None)
        Irregularity.objects.all().delete()
        Manifest.objects.all().delete()
        forget()

    def test_the_store_is_asked_only_for_what_came_after_the_last(self, days: S3Interface, bucket: Bucket) -> None:
        fields = ["sequence", "day", "key", "header", "titles", "sha256", "size", "public_key"]
        before, chain = rows(), list(Manifest.objects.values(*fields))
        listed = sorted(Delivery.objects.values_list("object_key", "manifest__sequence", "delivered_at"))
        self.forget_all()
        printed, asked = self.watched(days, bucket)
        assert f"{len(before[1])} restored, 0 known" in printed
        assert "0 unclear" in printed
        assert len(asked) == 2
        assert rows() == before
        assert list(Manifest.objects.values(*fields)) == chain
        again = sorted(Delivery.objects.values_list("object_key", "manifest__sequence", "delivered_at"))
        assert [each[:2] for each in again] == [each[:2] for each in listed]
        assert [each[2] for each in again if each[1]] == [each[2] for each in listed if each[1]]
        assert Irregularity.objects.filter(kind="dashboard late", manifest__sequence=1).exists()
        assert Irregularity.objects.filter(kind="index rebuilt", manifest=None).exists()

    def test_the_chain_goes_on(self, days: S3Interface, bucket: Bucket, tmp_path: Path) -> None:
        self.forget_all()
        run(days.name)
        Delivery.objects.filter(manifest=None).update(delivered_at=moment(FIRST + timedelta(days=3)))
        assert write(S3Interface.objects.get(), FIRST + timedelta(days=3))
        assert Manifest.objects.count() == 4
        out = io.StringIO()
        call_command("verify_archive", stdout=out)
        assert "4 manifests, 0 findings" in out.getvalue()

    def test_again_it_restores_nothing(self, days: S3Interface, bucket: Bucket) -> None:
        before = rows()
        printed, asked = self.watched(days, bucket)
        assert f"0 restored, {len(before[1])} known" in printed
        assert "0 unclear" in printed
        assert asked == []

    def test_a_database_from_a_backup_catches_up(self, days: S3Interface, bucket: Bucket) -> None:
        """The backup is older than the manifests; one that it has sealed and not written gives way."""
        Delivery.objects.update(manifest=None)
        Manifest.objects.filter(sequence__gt=1).delete()
        Manifest.objects.update(written_at=None, sha256="", signature=b"", header="{}")
        run(days.name)
        assert Manifest.objects.filter(written_at__isnull=False).count() == 3
        assert Delivery.objects.filter(manifest=None).count() == 2

    def test_what_manifests_and_objects_disagree_on_is_listed(self, days: S3Interface, bucket: Bucket) -> None:
        gone, changed = Delivery.objects.filter(manifest__isnull=False).order_by("pk")[:2]
        bucket.client.delete_object(Bucket=bucket.name, Key=gone.object_key)
        bucket.client.put_object(Bucket=bucket.name, Key=changed.object_key, Body=b"changed")
        self.forget_all()
        printed = run(days.name)
        assert f"{gone.object_key}  A manifest lists it, and it is not in the bucket." in printed
        assert f"{changed.object_key}  The store lists 7 bytes, the manifest says" in printed
        assert "2 unclear" in printed

    def test_a_manifest_whose_signature_does_not_fit_does_not_count(self, days: S3Interface, bucket: Bucket) -> None:
        key = Manifest.objects.get(sequence=1).key
        content = bucket.read(key).replace(b"dashboard late", b"dashboard fine")
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=content)
        before = rows()
        self.forget_all()
        printed, asked = self.watched(days, bucket)
        assert f"{key}  Its signature is not valid" in printed
        assert len(asked) > 2
        assert rows()[1] == before[1]

    def test_a_line_that_is_wrong_is_told_and_costs_no_other(self, days: S3Interface, bucket: Bucket) -> None:
        manifest = Manifest.objects.get(sequence=1)
        first, second = manifest.deliveries.order_by("pk")[:2]
        lines = [json.loads(line) for line in bucket.read(manifest.key).splitlines()]
        lines[1]["size"] = "many"
        content = "".join(json.dumps(line) + "\n" for line in [*lines[:2], {"type": "greeting"}, *lines[2:]]).encode()
        for key, body in ((manifest.key, content), (f"{manifest.key}.sig", signing.current().sign(content))):
            bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
        before = rows()
        self.forget_all()
        printed, asked = self.watched(days, bucket)
        assert f"{first.object_key}  A manifest lists it: It has no size." in printed
        assert "1 unclear" in printed
        assert any(path.endswith(first.object_key) for path in asked), "so its object is asked for"
        assert not any(path.endswith(second.object_key) for path in asked)
        assert rows()[1] == before[1]

    def test_broken_off_anywhere_it_goes_on(
        self, days: S3Interface, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        irregularities.record_irregularity("dashboard late", days, at=moment(FIRST), dashboard="stock")
        write(days, FIRST + timedelta(days=3))
        before, events = rows(), Irregularity.objects.filter(kind="dashboard late").count()
        monkeypatch.setattr(manifest_lines, "_STEP", 2000)
        self.forget_all()
        for most in itertools.count(1, 3):
            try:
                with lost_after(most):
                    run(days.name)
                break
            except LostError:
                pass
        assert most > 20
        assert rows() == before
        assert Delivery.objects.filter(manifest=None).count() == 0
        assert Irregularity.objects.filter(kind="dashboard late").count() == events

    @pytest.mark.django_db(transaction=True)
    def test_a_dashboard_that_is_gone_meanwhile_is_made_again(self, days: S3Interface) -> None:
        listed = sorted(Delivery.objects.filter(manifest__isnull=False).values_list("object_key", flat=True))
        self.forget_all()
        progress = rebuild_rows.Progress(had_receipts=False, dashboards={"sales": 10**6, "stock": 10**6})
        for _ in rebuild_manifests.restore(days, days.destination(), progress):
            assert progress.unclear == []
        assert sorted(Delivery.objects.values_list("object_key", flat=True)) == listed
        assert {report.dashboard.slug for report in Report.objects.select_related("dashboard")} == {"sales", "stock"}

    def test_another_report_with_the_id_of_each_of_them_is_told(self, days: S3Interface) -> None:
        listed = Delivery.objects.filter(manifest__isnull=False).count()
        ids = list(Delivery.objects.filter(manifest__isnull=False).values_list("report_id", flat=True))
        self.forget_all()
        dashboard = Dashboard.objects.create(slug="other")
        for number, pk in enumerate(ids):
            values: dict[str, Any] = {
                "filename": "a.pdf",
                "content_type": "application/pdf",
                "size": 1,
                "sha256": "0" * 64,
                "md5": "0",
            }
            Report.objects.create(
                pk=pk, dashboard=dashboard, rendered_at=moment(FIRST) + timedelta(seconds=number), **values
            )
        printed = run(days.name)
        assert printed.count("Another report has its ID") == listed
        assert Delivery.objects.filter(report__in=ids).count() == 0

    def test_what_came_in_anew_and_waits_is_left_to_the_queue(self, days: S3Interface, bucket: Bucket) -> None:
        row = Delivery.objects.select_related("report__dashboard").filter(manifest__sequence=1).order_by("pk")[1]
        content = row.report.local_path.read_bytes()
        values = {"dashboard": row.report.dashboard.slug, "rendered_at": row.report.rendered_at}
        number = Report.objects.count()
        self.forget_all()
        again = make_report(content, filename="again.pdf", **values)
        printed = run(days.name)
        assert f"{number - 1} restored, 0 known" in printed
        assert Delivery.objects.get(report=again).state == State.PENDING
        assert Report.objects.count() == number

    def test_after_a_report_that_exists_rows_are_no_longer_expected_to_be_new(
        self, days: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = rows()
        monkeypatch.setattr(manifest_lines, "_STEP", 1000)
        kept = Report.objects.filter(deliveries__manifest__sequence=1).order_by("deliveries__pk")[0]
        Delivery.objects.all()._raw_delete("default")
        Report.objects.exclude(pk=kept.pk)._raw_delete("default")
        Irregularity.objects.all().delete()
        Manifest.objects.all().delete()
        progress = rebuild_rows.Progress(
            had_receipts=False, dashboards=dict(Dashboard.objects.values_list("slug", "pk"))
        )
        for _ in rebuild_manifests.restore(days, days.destination(), progress):
            assert progress.unclear == []
        assert progress.all_new is (database.vendor != "postgresql")
        run(days.name)
        assert rows() == before

    def test_irregularities_that_are_missing_are_added(self, days: S3Interface) -> None:
        for dashboard in ("a", "b"):
            irregularities.record_irregularity("dashboard late", days, at=moment(FIRST), dashboard=dashboard)
        write(days, FIRST + timedelta(days=3))
        listed = list(Irregularity.objects.order_by("pk").values_list("kind", "at", "facts", "manifest"))
        Irregularity.objects.filter(facts__dashboard="b").delete()
        run(days.name)
        assert list(Irregularity.objects.order_by("pk").values_list("kind", "at", "facts", "manifest")) == listed

    def test_manifests_of_a_lost_key_count_and_are_remarked_on(self, days: S3Interface, bucket: Bucket) -> None:
        before = rows()
        self.forget_all()
        SigningKey.objects.all().delete()
        out, remarks = io.StringIO(), io.StringIO()
        call_command("rebuild_index", days.name, stdout=out, stderr=remarks)
        assert "was taken from the bucket" in remarks.getvalue()
        assert rows() == before
        write(S3Interface.objects.get(), FIRST + timedelta(days=4))
        assert "new_chain" in Manifest.objects.get(sequence=4).header
