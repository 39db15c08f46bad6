"""Housekeeping never removes a local copy that is not safely stored in all the right places."""

import io
import os
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anaphora.deliveries import files, housekeeping, queue, tasks
from anaphora.deliveries.destinations import Integrity
from anaphora.deliveries.engine import deliver_due
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, State
from anaphora.deliveries.policies import backfill
from anaphora.reports import orphans
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = pytest.mark.django_db
LATER = timedelta(days=31)


def archived(interface: S3Interface, **changes: Any) -> Report:
    report = make_report(**changes)
    Dashboard.objects.update(keep_local_days=30)
    deliver_due(interface.pk)
    return report


def tidy_later() -> housekeeping.Removed:
    return housekeeping.run_housekeeping(timezone.now() + LATER)


def test_a_safe_copy_is_removed_after_its_days_and_the_report_stays_viewable(
    interface: S3Interface, admin_client: Client
) -> None:
    make_policy(interface)
    report = archived(interface, content=b"%PDF-1.7 x")
    assert housekeeping.run_housekeeping(timezone.now() + timedelta(days=29)).reports == 0
    assert housekeeping.run_housekeeping(timezone.now() + LATER, dry_run=True).reports == 1
    assert report.local_path.exists()
    assert tidy_later() == housekeeping.Removed(reports=1, bytes=10)
    assert not report.local_path.exists()
    assert tidy_later().reports == 0
    page = admin_client.get(reverse("admin:reports_report_content", args=[report.pk]))
    assert page.getvalue() == b"%PDF-1.7 x"
    assert page["Content-Type"] == "application/pdf"
    assert "inline" in page["Content-Disposition"]


@pytest.mark.parametrize("days", [999_999, 2**31 - 1])
def test_a_number_of_days_beyond_the_calendar_does_not_stop_housekeeping(interface: S3Interface, days: int) -> None:
    make_report()
    Dashboard.objects.update(keep_local_days=days)
    assert housekeeping.run_housekeeping(timezone.now()).reports == 0


def test_without_days_copies_stay(interface: S3Interface) -> None:
    make_policy(interface)
    report = make_report()
    deliver_due(interface.pk)
    assert tidy_later() == housekeeping.Removed()
    assert report.local_path.exists()


@pytest.mark.parametrize("state", [State.PENDING, State.SENDING, State.FAILED])
def test_each_other_state_keeps_the_copy(interface: S3Interface, state: State) -> None:
    make_policy(interface)
    report = make_report()
    Dashboard.objects.update(keep_local_days=0)
    lease = {"lease": uuid.uuid4(), "leased_until": timezone.now()} if state == State.SENDING else {}
    Delivery.objects.update(state=state, **lease)
    assert tidy_later().unsafe == 1
    assert report.local_path.exists()


def test_a_report_that_no_policy_wants_is_not_safe() -> None:
    report = make_report()
    Dashboard.objects.update(keep_local_days=0)
    assert tidy_later().unsafe == 1
    assert report.local_path.exists()


def test_every_interface_required_by_a_policy_must_have_it(interface: S3Interface, bucket: Bucket) -> None:
    make_policy(interface)
    report = archived(interface)
    second = make_policy(make_interface(bucket.server, bucket.name, key_prefix="second/"))
    assert tidy_later().unsafe == 1
    ArchivePolicy.objects.filter(pk=second.pk).update(enabled=False)
    assert tidy_later().reports == 1
    assert not report.local_path.exists()


@pytest.mark.parametrize(
    ("configured", "received", "removed"),
    [("md5", "none", 0), ("md5", "md5", 1), ("etag", "md5", 0), ("sha256", "etag", 0), ("sha256", "sha256", 1)],
)
def test_the_integrity_must_be_good_enough(
    interface: S3Interface, monkeypatch: pytest.MonkeyPatch, configured: str, received: str, removed: int
) -> None:
    make_policy(interface)
    archived(interface)
    Delivery.objects.update(integrity=received)
    monkeypatch.setattr(django_settings, "HOUSEKEEPING_INTEGRITY", configured)
    assert tidy_later().reports == removed


def test_the_days_count_from_the_delivery(interface: S3Interface) -> None:
    make_policy(interface)
    archived(interface)
    Delivery.objects.update(delivered_at=timezone.now() + timedelta(days=10))
    assert tidy_later().unsafe == 1


def test_a_cancelled_delivery_keeps_the_local_copy_while_a_policy_wants_it(
    interface: S3Interface, bucket: Bucket
) -> None:
    make_policy(interface)
    second = make_policy(make_interface(bucket.server, bucket.name, key_prefix="second/"))
    report = archived(interface)
    assert len(queue.cancel(list(Delivery.objects.filter(interface=second.interface)))) == 1
    assert tidy_later() == housekeeping.Removed(unsafe=1)
    second.enabled = False
    second.save()
    assert tidy_later().reports == 1
    assert not report.local_path.exists()


def test_a_new_interface_gets_reports_without_local_copy_from_the_old_one(
    interface: S3Interface, bucket: Bucket
) -> None:
    make_policy(interface)
    archived(interface, content=b"%PDF-1.7 x")
    tidy_later()
    second = make_interface(bucket.server, bucket.name, key_prefix="second/")
    list(backfill(make_policy(second)))
    assert deliver_due(second.pk).delivered == 1
    assert bucket.read(Delivery.objects.get(interface=second).object_key) == b"%PDF-1.7 x"


def test_a_report_that_cannot_be_read_anywhere_is_explained(
    interface: S3Interface, bucket: Bucket, admin_client: Client
) -> None:
    make_policy(interface)
    report = archived(interface)
    tidy_later()
    bucket.client.delete_object(Bucket=bucket.name, Key=Delivery.objects.get().object_key)
    page = admin_client.get(reverse("admin:reports_report_content", args=[report.pk]), follow=True).content.decode()
    assert "cannot be read there" in page
    assert "s3:GetObject" in page
    second = make_interface(bucket.server, bucket.name, key_prefix="second/")
    list(backfill(make_policy(second)))
    deliver_due(second.pk)
    assert Delivery.objects.get(interface=second).diagnosis == "local_copy_missing"
    nowhere = make_report(dashboard="stock")
    Delivery.objects.filter(report=nowhere).delete()
    nowhere.local_path.unlink()
    page = admin_client.get(reverse("admin:reports_report_content", args=[nowhere.pk]), follow=True).content.decode()
    assert "neither here nor archived" in page


def test_an_object_that_is_not_the_report_is_not_delivered(interface: S3Interface, bucket: Bucket) -> None:
    make_policy(interface)
    report = archived(interface, content=b"%PDF-1.7 x")
    bucket.client.put_object(Bucket=bucket.name, Key=Delivery.objects.get().object_key, Body=b"%PDF-1.7 y")
    with pytest.raises(files.Unavailable, match="SHA-256"):
        files.read_stored(report, 0, report.size)


def test_active_content_is_downloaded_never_shown(client: Client, admin_client: Client) -> None:
    report = make_report(b"<svg xmlns='x'><script>alert(1)</script></svg>", filename="a.svg")
    answer = admin_client.get(reverse("admin:reports_report_content", args=[report.pk]))
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert answer.getvalue()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(reverse("admin:reports_report_content", args=[report.pk])).status_code == 403


def test_the_command_and_the_task(interface: S3Interface) -> None:
    make_policy(interface)
    report = archived(interface)
    Dashboard.objects.update(keep_local_days=0)
    out = io.StringIO()
    call_command("housekeeping", "--dry-run", stdout=out)
    assert "1 local copy" in out.getvalue()
    assert "would be removed" in out.getvalue()
    call_command("housekeeping", "--dry-run", "--json", stdout=out)
    assert '"reports": 1' in out.getvalue()
    assert report.local_path.exists()
    tasks.run_housekeeping()
    assert not report.local_path.exists()


def test_temporary_files_of_a_killed_web_server_are_removed() -> None:
    old, fresh = (Path(django_settings.FILE_UPLOAD_TEMP_DIR) / name for name in ("old", "fresh"))
    for file in (old, fresh):
        file.write_bytes(b"x")
    os.utime(old, (1, 1))
    housekeeping.run_housekeeping(timezone.now())
    assert (old.exists(), fresh.exists()) == (False, True)
    fresh.unlink()


def test_uploads_that_end_meanwhile_cause_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "gone"]))
    housekeeping.run_housekeeping(timezone.now())


FACT = st.tuples(
    st.sampled_from([State.PENDING, State.SENDING, State.FAILED, State.DELIVERED]),
    st.sampled_from(Integrity.values),
    st.integers(min_value=0, max_value=40),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    facts=st.lists(st.none() | FACT, min_size=3, max_size=3),
    wanted=st.lists(st.booleans(), min_size=3, max_size=3),
    keep=st.none() | st.integers(min_value=0, max_value=30),
    grade=st.sampled_from(Integrity.values),
)
def test_in_all_histories_only_safe_copies_are_removed(
    facts: list[Any], wanted: list[bool], keep: int | None, grade: str
) -> None:
    """Three interfaces, each with or without a policy, and with or without a delivery in any state."""
    for model in (Delivery, ArchivePolicy, S3Interface, Interface, Report):
        model.objects.all()._raw_delete(using="default")
    now = timezone.now()
    report = make_report()
    Dashboard.objects.update(keep_local_days=keep)
    Report.objects.update(ingested_at=now - timedelta(days=50))
    safe = keep is not None and any(wanted[index] or facts[index] for index in range(3))
    for index, fact in enumerate(facts):
        interface = S3Interface.objects.create(name=str(index), bucket_name="b")
        if wanted[index]:
            make_policy(interface)
        if fact is None:
            safe = safe and not wanted[index]
            continue
        state, integrity, days = fact
        values: dict[str, Any] = {}
        if state == State.DELIVERED:
            values = {"delivered_at": now - timedelta(days=days), "size": 1, "object_key": "k", "integrity": integrity}
        if state == State.SENDING:
            values = {"lease": uuid.uuid4(), "leased_until": now}
        Delivery.objects.create(report=report, interface=interface, state=state, **values)
        good = state == State.DELIVERED and Integrity.values.index(integrity) <= Integrity.values.index(grade)
        safe = safe and good and keep is not None and days >= keep
    before, django_settings.HOUSEKEEPING_INTEGRITY = django_settings.HOUSEKEEPING_INTEGRITY, grade
    try:
        housekeeping.run_housekeeping(now)
    finally:
        django_settings.HOUSEKEEPING_INTEGRITY = before
    assert report.local_path.exists() is not safe


def leftover(folder: str, name: str, *, days: float) -> Path:
    file = Path(django_settings.DATA_DIR, folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"%PDF-1.7 half a rep")
    then = (timezone.now() - timedelta(days=days)).timestamp()
    os.utime(file, (then, then))
    return file


def test_a_local_copy_without_a_report_is_removed_after_a_day(tmp_path: Path) -> None:
    kept = make_report()
    os.utime(kept.local_path, (1, 1))
    stays = [
        kept.local_path,
        leftover("reports", f"sales/2026/03/{uuid.uuid4()}.pdf", days=0.9),
        leftover("reports", "sales/2026/03/notes.txt", days=2),
        leftover("reports", f"moved/{kept.pk}.csv", days=2),
    ]
    outside = tmp_path / "outside"
    outside.mkdir()
    linked = outside / f"{uuid.uuid4()}.pdf"
    linked.write_text("of somebody else")
    os.utime(linked, (1, 1))
    Path(django_settings.DATA_DIR, "reports", "sales", "link").symlink_to(outside)
    Path(django_settings.DATA_DIR, "reports", "sales", f"{uuid.uuid4()}.pdf").symlink_to(linked)
    orphan = leftover("reports", f"sales/2026/03/{uuid.uuid4()}.pdf", days=1.1)
    assert housekeeping.run_housekeeping(timezone.now(), dry_run=True).orphans == 1
    assert orphan.exists()
    out = io.StringIO()
    call_command("housekeeping", stdout=out)
    assert "1 file without a report removed." in out.getvalue()
    assert not orphan.exists()
    assert all(file.exists() for file in [*stays, linked])


def test_many_local_copies_without_reports_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"sales/2026/03/{uuid.uuid4()}.pdf" for _ in range(housekeeping.MOST_ORPHANS + 1)]
    files = [leftover("reports", name, days=2) for name in names]
    assert housekeeping.run_housekeeping(timezone.now()).orphans == 0
    assert all(file.exists() for file in files), "the database may be an older one, restored from a backup"
    assert "belong to no report" in caplog.text


def test_previews_without_a_report_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "BATCH", 2)
    report = make_report()
    kept = leftover("previews", f"ab/{report.pk}.webp", days=2)
    gone = [leftover("previews", f"ab/{uuid.uuid4()}.webp", days=2) for _ in range(30)]
    gone.append(leftover("previews", "ab/tmpabc.part", days=2))
    young = leftover("previews", "ab/tmpxyz.part", days=0)
    housekeeping.run_housekeeping(timezone.now())
    assert not any(file.exists() for file in gone)
    assert kept.exists()
    assert young.exists()
    kept.unlink()
    young.unlink()
