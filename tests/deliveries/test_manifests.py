"""Each day has one signed manifest for each interface, and each delivered report is in exactly one."""

import io
import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from anaphora.deliveries import engine, irregularities, manifests, queue, signing, tasks
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.signing import SigningProblem
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support import archives
from tests.support.archives import FIRST, deliver_on, moment, write
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.servers import S3Server

pytestmark = pytest.mark.django_db

KEY = "archive.manifests/2026/2026-03-{:02}.jsonl"


@pytest.fixture
def interface(interface: S3Interface) -> S3Interface:
    make_policy(interface)
    return interface


def read(bucket: Bucket, key: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bucket.read(key).decode().splitlines()]


def listed(bucket: Bucket) -> list[str]:
    """Return the keys listed in the manifests, in the order of their sequence."""
    found = [read(bucket, key) for key in archives.keys(bucket) if key.endswith(".jsonl")]
    found.sort(key=lambda lines: lines[0]["sequence"])
    return [line["key"] for lines in found for line in lines[1:] if line["type"] == "report"]


def test_it_lists_what_was_stored_that_day(interface: S3Interface, bucket: Bucket) -> None:
    Dashboard.objects.create(slug="sales", title="Umsätze & more")
    rows = deliver_on(interface, FIRST, 3)
    deliver_on(interface, FIRST + timedelta(days=1))
    assert write(interface, FIRST, moment(FIRST, 50)) == [KEY.format(1)]
    header, *lines = read(bucket, KEY.format(1))
    assert header["type"] == "manifest"
    assert (header["interface"], header["bucket"], header["prefix"]) == (interface.name, bucket.name, "")
    assert (header["day"], header["sequence"], header["previous"]) == ("2026-03-01", 1, None)
    assert (header["reports"], header["bytes"]) == (3, sum(row.size or 0 for row in rows))
    assert header["public_key"] == signing.current().fingerprint
    assert [line["key"] for line in lines] == [row.object_key for row in rows]
    for line in lines:
        report = Report.objects.get(pk=line["report_id"])
        assert (line["sha256"], line["md5"], line["size"]) == (report.sha256, report.md5, report.size)
        assert (line["content_type"], line["filename"]) == (report.content_type, report.filename)
        assert (line["dashboard"], line["title"]) == ("sales", "Umsätze & more")
        assert line["etag"]
        assert line["integrity"]


def test_any_openssl_verifies_the_signature(interface: S3Interface, bucket: Bucket, tmp_path: Path) -> None:
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    key = archives.public_key(tmp_path)
    folder = archives.copy(bucket, tmp_path / "copy")
    assert (folder / f"archive.manifests/keys/{signing.current().fingerprint}.pem").read_text() == key.read_text()
    manifest = folder / KEY.format(1)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin", "-in", str(manifest)]
    command += ["-sigfile", f"{manifest}.sig"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_days_without_reports_have_manifests_and_each_names_the_previous_one(
    interface: S3Interface, bucket: Bucket
) -> None:
    deliver_on(interface, FIRST)
    deliver_on(interface, FIRST + timedelta(days=3))
    assert write(interface, FIRST + timedelta(days=4)) == [KEY.format(day) for day in range(1, 6)]
    before = None
    for number, manifest in enumerate(Manifest.objects.order_by("sequence"), 1):
        header = read(bucket, manifest.key)[0]
        assert header["sequence"] == number
        assert header["reports"] == (1 if number in {1, 4} else 0)
        assert header["previous"] == before
        before = {"key": manifest.key, "sha256": manifest.sha256}


def test_a_day_is_written_once_it_is_over_and_not_again(interface: S3Interface, bucket: Bucket) -> None:
    deliver_on(interface, FIRST)
    for now in (moment(FIRST, 20), moment(FIRST, 24.5)):
        assert manifests.last_day(now) < FIRST
    assert manifests.last_day(moment(FIRST, 26)) == FIRST
    assert not manifests.write_due(moment(FIRST, 26), 60)
    first = bucket.read(KEY.format(1))
    assert not manifests.write_due(moment(FIRST, 30), 60)
    assert Manifest.objects.count() == 1
    assert bucket.read(KEY.format(1)) == first


def test_a_late_outcome_is_in_the_next_manifest(interface: S3Interface, bucket: Bucket) -> None:
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    late = deliver_on(interface, FIRST)[0]
    write(interface, FIRST + timedelta(days=1))
    assert [line["key"] for line in read(bucket, KEY.format(2))[1:]] == [late.object_key]


def test_a_clock_that_was_ahead_causes_no_delay_and_no_duplicates(interface: S3Interface, bucket: Bucket) -> None:
    rows = deliver_on(interface, FIRST, 2)
    Delivery.objects.filter(pk=rows[1].pk).update(delivered_at=moment(FIRST + timedelta(days=900)))
    write(interface, FIRST)
    assert len(read(bucket, KEY.format(1))) == 3, "a delivery with a time in the future is listed now"
    write(interface, FIRST + timedelta(days=20), moment(FIRST + timedelta(days=21), 2))  # a clock that is ahead
    rows += deliver_on(interface, FIRST + timedelta(days=2))
    now = moment(FIRST + timedelta(days=3), 2)
    assert write(interface, FIRST + timedelta(days=2), now) == ["archive.manifests/2026/2026-03-03.22.jsonl"]
    assert write(interface, FIRST + timedelta(days=2), now) == []
    rows += deliver_on(interface, FIRST + timedelta(days=3))
    assert write(interface, FIRST + timedelta(days=3)) == ["archive.manifests/2026/2026-03-04.23.jsonl"]
    assert listed(bucket) == [row.object_key for row in rows]


def test_interrupted_anywhere_it_continues_with_the_same_bytes(
    interface: S3Interface, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_on(interface, FIRST, 2)
    destination = interface.destination()
    put, sealed = type(destination).put, set()
    for allowed in range(6):
        calls = 0

        def some(self: Any, *arguments: Any, allowed: int = allowed) -> Any:
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise ConnectionError("killed")
            return put(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(type(destination), "put", some)
            with suppress(ConnectionError):
                write(interface, FIRST)
        sealed.add(Manifest.objects.get().header)
        Dashboard.objects.update(title=f"renamed {allowed}")
    assert len(sealed) == 1
    assert Manifest.objects.get().written_at
    assert [line.get("title", "") for line in read(bucket, KEY.format(1))[1:]] == ["", ""]


def test_an_unreachable_store_only_delays_manifests(
    interface: S3Interface, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    rows = deliver_on(interface, FIRST)
    S3Interface.objects.update(bucket_name="there-is-none")
    assert not manifests.write_due(moment(FIRST, 26), 60)
    assert "not written" in caplog.text
    with pytest.raises(CommandError, match="Bucket not found"):
        call_command("write_manifests")
    S3Interface.objects.update(bucket_name=bucket.name)
    manifests.write_due(moment(FIRST, 50), 60)
    assert listed(bucket) == [row.object_key for row in rows]


def test_a_turn_ends_after_its_time_and_the_next_continues(interface: S3Interface, bucket: Bucket) -> None:
    deliver_on(interface, FIRST)
    turns = 1
    while manifests.write_due(moment(FIRST + timedelta(days=5), 2), -1):
        turns += 1
    assert turns == 6
    assert Manifest.objects.filter(written_at__isnull=False).count() == 5


def test_it_can_be_switched_off(interface: S3Interface) -> None:
    deliver_on(interface, FIRST)
    S3Interface.objects.update(write_manifests=False)
    tasks.write_manifests()
    assert not Manifest.objects.exists()


def test_an_unused_interface_gets_no_manifests(interface: S3Interface, bucket: Bucket) -> None:
    other = make_interface(bucket.server, bucket.name, key_prefix="other/")
    assert [each.pk for each in manifests.interfaces_in_use()] == [interface.pk]
    irregularities.record_irregularity(irregularities.RUN_MISSED, other, policy="nightly")
    assert {each.pk for each in manifests.interfaces_in_use()} == {interface.pk, other.pk}


def test_a_foreign_object_with_its_key_is_reported_and_not_overwritten(
    interface: S3Interface, moto: S3Server, make_bucket: Callable[..., Bucket]
) -> None:
    bucket = make_bucket(moto)
    interface = make_interface(moto, bucket.name)
    make_policy(interface)
    deliver_on(interface, FIRST)
    bucket.client.put_object(Bucket=bucket.name, Key=KEY.format(1), Body=b"earlier\n")
    with pytest.raises(DeliveryError, match="Key used by another object"):
        write(interface, FIRST)
    assert bucket.read(KEY.format(1)) == b"earlier\n"


def test_a_database_from_a_backup_overwrites_no_manifest(interface: S3Interface, bucket: Bucket) -> None:
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    first = bucket.read(KEY.format(1))
    Delivery.objects.update(manifest=None)
    Manifest.objects.all().delete()
    deliver_on(interface, FIRST)
    with pytest.raises(DeliveryError, match="run rebuild_index to continue the chain"):
        write(interface, FIRST)
    assert bucket.read(KEY.format(1)) == first


def test_two_interfaces_do_not_share_a_chain(interface: S3Interface, bucket: Bucket) -> None:
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    other = make_interface(bucket.server, bucket.name)
    make_policy(other)
    with pytest.raises(SigningProblem, match="Key prefix of its own"):
        write(other, FIRST)
    write(interface, FIRST + timedelta(days=1))


def test_it_is_locked_like_the_reports(moto: S3Server, make_bucket: Callable[..., Bucket]) -> None:
    bucket = make_bucket(moto, ObjectLockEnabledForBucket=True)
    interface = make_interface(moto, bucket.name, object_lock_mode="GOVERNANCE", retention_days=3)
    make_policy(interface)
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    for key in archives.keys(bucket):
        assert bucket.client.head_object(Bucket=bucket.name, Key=key)["ObjectLockMode"] == "GOVERNANCE"
    line = read(bucket, KEY.format(1))[1]
    assert line["retain_until"]
    assert line["version_id"]


def test_a_manifest_is_not_signed_if_a_receipt_was_changed_since(interface: S3Interface) -> None:
    row = deliver_on(interface, FIRST)[0]
    S3Interface.objects.update(bucket_name="there-is-none")
    with pytest.raises(DeliveryError):
        write(S3Interface.objects.get(), FIRST)
    Delivery.objects.filter(pk=row.pk).update(sha256="0" * 64)
    with pytest.raises(SigningProblem, match="somebody changed receipts"):
        write(S3Interface.objects.get(), FIRST)


class TestIrregularities:
    def test_irregularities_are_listed(self, interface: S3Interface, bucket: Bucket) -> None:
        make_report()
        row = Delivery.objects.select_related("report__dashboard").get()
        queue.cancel([row])
        irregularities.record_irregularity(irregularities.DASHBOARD_LATE, dashboard="sales", at=moment(FIRST))
        Irregularity.objects.update(at=moment(FIRST))
        write(interface, FIRST)
        header, *lines = read(bucket, KEY.format(1))
        assert header["irregularities"] == 2
        assert [line["kind"] for line in lines] == ["cancelled", "dashboard late"]
        assert lines[0]["report_id"] == str(row.report_id)
        write(interface, FIRST + timedelta(days=1))
        assert read(bucket, KEY.format(2))[0]["irregularities"] == 0

    def test_a_failed_delivery_is_an_irregularity(self, interface: S3Interface) -> None:
        report = make_report()
        report.local_path.unlink()
        engine.deliver_due(interface.pk)
        assert Delivery.objects.get().state == State.FAILED
        event = Irregularity.objects.get()
        assert (event.kind, event.facts["diagnosis"]) == ("failed", "local_copy_missing")


class TestCommand:
    errors: io.StringIO

    def run(self, *arguments: str) -> str:
        out, self.errors = io.StringIO(), io.StringIO()
        call_command("write_manifests", *arguments, stdout=out, stderr=self.errors)
        return out.getvalue()

    def test_today_is_allowed_and_tomorrow_is_not(self, interface: S3Interface) -> None:
        make_report()
        engine.deliver_due(interface.pk)
        today = timezone.now().date()
        assert f"{today}.jsonl" in self.run("--until", str(today))
        assert self.run("--until", str(today)) == ""
        assert f"no manifest is due. The last one is of {today}" in self.errors.getvalue()
        assert self.run() == ""
        for wrong in (str(today + timedelta(days=1)), "yesterday"):
            with pytest.raises(CommandError):
                self.run("--until", wrong)

    def test_without_a_date_it_writes_up_to_yesterday(self, interface: S3Interface) -> None:
        yesterday = manifests.last_day(timezone.now())
        deliver_on(interface, yesterday)
        assert f"{yesterday}.jsonl" in self.run()
