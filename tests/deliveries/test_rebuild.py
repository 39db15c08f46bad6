"""The index comes back from the bucket, and catalogues make a listing unnecessary."""

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from anaphora.deliveries import catalogues, engine, rebuild, tasks
from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support import servers
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
    assert f"{len(NAMES)} restored, 0 known, 0 catalogues and tests, 0 unclear" in run(archive.name)
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
    assert seen == ["GET"], "one page of the listing"


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
        "holiday.jpg": "No key of a report.",
        "sales/2026/03/01/20260301T120000Z_0123456789abcdef.pdf": "It has no metadata of ours.",
        "sales/2026/03/01/20260301T990000Z_0123456789abcdef.pdf": "It has no metadata of ours.",
        twin: f"Another report has its id, {metadata['report-id']}.",
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
    make = rebuild._report

    def fail(each: Any, dashboard: Any) -> Any:
        if each.key == refused:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return make(each, dashboard)

    forget()
    monkeypatch.setattr(rebuild, "_report", fail)
    assert f"{refused}  It cannot be kept" in run(archive.name)
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
    with pytest.raises(CommandError, match="no interface of the name"):
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


class TestCatalogue:
    """One object for each dashboard and day, once the day is over."""

    def at(self, day: str, hour: int = 2) -> datetime:
        return datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC) + timedelta(hours=hour)

    def test_it_lists_what_was_stored_that_day(self, archive: S3Interface, bucket: Bucket) -> None:
        Delivery.objects.filter(report__dashboard__slug="stock").update(delivered_at=self.at("2026-03-02", 23))
        Delivery.objects.filter(report__dashboard__slug="sales").update(delivered_at=self.at("2026-03-05", 0))
        assert not catalogues.write_due(self.at("2026-03-06", 2), 60)
        written = [key for key in listed(bucket) if key.endswith(".jsonl")]
        assert written == ["sales/catalogue/2026-03-05.jsonl", "stock/catalogue/2026-03-02.jsonl"]
        lines = [json.loads(line) for line in bucket.read(written[1]).decode().splitlines()]
        assert [line["key"] for line in lines] == [key for key in listed(bucket) if key.startswith("stock/2026")]
        for line in lines:
            report = Report.objects.get(pk=line["report_id"])
            assert datetime.fromisoformat(line["rendered_at"]) == report.rendered_at
            assert (line["sha256"], line["size"]) == (report.sha256, report.size)
            assert (line["content_type"], line["filename"]) == (report.content_type, report.filename)
        head = bucket.client.head_object(Bucket=bucket.name, Key=written[0])
        assert head["ContentType"] == catalogues.CONTENT_TYPE
        assert S3Interface.objects.get().catalogued_until == date(2026, 3, 5)

    def test_a_day_is_written_once_it_is_over_and_not_again(self, archive: S3Interface, bucket: Bucket) -> None:
        Delivery.objects.update(delivered_at=self.at("2026-03-02", 12))
        for now in (self.at("2026-03-02", 20), self.at("2026-03-03", 0)):
            catalogues.write_due(now, 60)
            assert not [key for key in listed(bucket) if key.endswith(".jsonl")]
        catalogues.write_due(self.at("2026-03-03", 2), 60)
        first = {key: bucket.read(key) for key in listed(bucket) if key.endswith(".jsonl")}
        assert len(first) == 2
        S3Interface.objects.update(catalogued_until=None)
        catalogues.write_due(self.at("2026-03-04", 2), 60)  # as if another process had been as quick
        assert {key: bucket.read(key) for key in listed(bucket) if key.endswith(".jsonl")} == first

    def test_a_turn_ends_and_the_next_goes_on(self, archive: S3Interface, bucket: Bucket) -> None:
        for number, row in enumerate(Delivery.objects.all()):
            Delivery.objects.filter(pk=row.pk).update(delivered_at=self.at("2026-03-02", 24 * number))
        turns = 1
        while catalogues.write_due(self.at("2026-05-01"), -1):
            turns += 1
        assert turns > len(NAMES)
        assert len([key for key in listed(bucket) if key.endswith(".jsonl")]) == len(NAMES)

    def test_it_can_be_switched_off_and_refusals_are_tried_again(
        self, archive: S3Interface, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        Delivery.objects.update(delivered_at=self.at("2026-03-02", 12))
        S3Interface.objects.update(catalogue=False)
        tasks.write_catalogues()
        assert S3Interface.objects.get().catalogued_until is None
        S3Interface.objects.update(catalogue=True, bucket_name="there-is-none")
        tasks.write_catalogues()
        assert S3Interface.objects.get().catalogued_until is None
        assert "No catalogue to" in caplog.text

    def test_what_is_stored_under_its_key_stays(
        self, archive: S3Interface, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        Delivery.objects.update(delivered_at=self.at("2026-03-02", 12))
        key = "sales/catalogue/2026-03-02.jsonl"
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"earlier\n")
        catalogues.write_due(self.at("2026-03-03"), 60)
        assert bucket.read(key) == b"earlier\n"
        assert "is another one" in caplog.text

    def test_a_rebuilt_index_knows_how_far_they_reach(self, archive: S3Interface, bucket: Bucket) -> None:
        Delivery.objects.update(delivered_at=self.at("2026-03-02", 12))
        catalogues.write_due(self.at("2026-03-03"), 60)
        S3Interface.objects.update(catalogued_until=None)
        forget()
        assert "2 catalogues and tests, 0 unclear" in run(archive.name)
        assert S3Interface.objects.get().catalogued_until == date(2026, 3, 2)
