"""The same 200 real files are ingested in each way, and are stored byte for byte."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anaphora.api import routes, tokens
from anaphora.api.models import Scope
from anaphora.deliveries.engine import deliver_due
from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.object_keys import object_key
from anaphora.reports import inbox, upload
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import NOON, make_policy, make_report
from tests.support.samples import files

pytestmark = pytest.mark.django_db
FILES = files(200)
Way = Callable[[int, str, bytes], None]


@pytest.fixture(params=["command", "API", "inbox", "admin"])
def way(request: Any, tmp_path: Path, client: Client, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Return a function that ingests the n-th file with this name and content."""
    cache.clear()
    monkeypatch.setattr(settings, "INGEST_OTHER_TYPES", [])
    monkeypatch.setattr(routes.THROTTLES[0], "num_requests", 10**9)
    monkeypatch.setattr(settings, "INBOX_DIR", tmp_path / "inbox")
    monkeypatch.setattr(settings, "INBOX_SETTLE_SECONDS", 0)
    (tmp_path / "inbox" / "sales").mkdir(parents=True)
    token = tokens.create("test", [Scope.INGEST])[1]

    def moment(number: int) -> datetime:
        # All on one day, because rclone sometimes fails if two uploads create the same folder.
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)

    def form_of(number: int, name: str, content: bytes) -> dict[str, Any]:
        file = SimpleUploadedFile(name, content)
        return {"dashboard": "sales", "rendered_at": moment(number).isoformat(), "file": file}

    def by_command(number: int, name: str, content: bytes) -> None:
        file = tmp_path / "file"
        file.write_bytes(content)
        with file.open("rb") as source:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(source))
            when = moment(number).isoformat()
            arguments = ["-", "--filename", name, "--dashboard", "sales", "--rendered-at", when]
            call_command("ingest", *arguments, stdout=io.StringIO())

    def by_api(number: int, name: str, content: bytes) -> None:
        form = {
            "dashboard": "sales",
            "rendered_at": moment(number).isoformat(),
            "file": SimpleUploadedFile(name, content),
        }
        answer = client.post("/api/v1/reports", form, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.content

    def by_inbox(number: int, name: str, content: bytes) -> None:
        file = tmp_path / "inbox" / "sales" / name.rpartition("/")[2]
        file.write_bytes(content)
        os.utime(file, (moment(number).timestamp(),) * 2)
        assert inbox.scan() == inbox.ScanResult(ingested=1), name

    def by_admin(number: int, name: str, content: bytes) -> None:
        form = {
            "dashboard": "sales",
            "rendered_at": moment(number).isoformat(),
            "file": SimpleUploadedFile(name, content),
        }
        answer = admin_client.post(reverse("admin:reports_report_upload"), form)
        assert json.loads(answer.content)["created"], answer.content

    ways: dict[str, Way] = {"command": by_command, "API": by_api, "inbox": by_inbox, "admin": by_admin}
    chosen: Way = ways[request.param]
    return chosen


def test_200_real_files_are_stored_byte_for_byte(way: Way, interface: S3Interface, bucket: Bucket) -> None:
    make_policy(interface)
    for number, (name, content, _) in enumerate(FILES):
        way(number, name, content)
    assert deliver_due(interface.pk).delivered == 200
    wanted = {hashlib.sha256(content).hexdigest(): (content, type_) for _, content, type_ in FILES}
    assert len(wanted) == 200
    for delivery in Delivery.objects.select_related("report__dashboard"):
        report = delivery.report
        content, content_type = wanted.pop(report.sha256)
        assert bucket.read(delivery.object_key) == content
        assert report.content_type == content_type
        assert delivery.object_key == object_key(
            prefix="", dashboard="sales", rendered_at=report.rendered_at, sha256=report.sha256, suffix=report.suffix
        )
        head = bucket.client.head_object(Bucket=bucket.name, Key=delivery.object_key)
        if bucket.server.kind != "rclone":  # its buckets are folders, which keep neither
            assert head["ContentType"] == content_type
            assert "filename" in head["ContentDisposition"]
            assert head["Metadata"]["sha256"] == report.sha256
    assert wanted == {}


ANY_NAME = st.text(min_size=1, max_size=80).filter(lambda name: name.strip("./\\ ") != "")


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    slug=st.from_regex(r"[-a-zA-Z0-9_]{1,100}", fullmatch=True),
    name=ANY_NAME,
    contents=st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=2, unique=True),
    moment=st.datetimes(timezones=st.just(UTC)),
    prefix=st.sampled_from(["", "reports/", "a/" * 100]),
)
def test_any_name_and_dashboard_gives_a_legal_key_of_one_content(
    slug: str, name: str, contents: list[bytes], moment: datetime, prefix: str
) -> None:
    keys = set()
    for content in contents:
        report = Report(filename=name, content_type="text/plain")
        sha256 = hashlib.sha256(content).hexdigest()
        key = object_key(prefix=prefix, dashboard=slug, rendered_at=moment, sha256=sha256, suffix=report.suffix)
        assert len(key.encode()) <= 1024
        assert key.isascii()
        assert key.isprintable()
        assert "//" not in key
        assert "/../" not in f"/{key}"
        keys.add(key)
    assert len(keys) == 2


@pytest.mark.ceph
def test_metadata_survives_the_round_trip(interface: S3Interface, bucket: Bucket) -> None:
    from urllib.parse import unquote

    make_policy(interface)
    names = [name.replace("\n", "_").rpartition("/")[2].rpartition("\\")[2] for name, _, _ in FILES[:15]]
    for number, name in enumerate(names):
        make_report(f"%PDF-1.7 {number}".encode(), filename=name, rendered_at=NOON + timedelta(seconds=number))
    deliver_due(interface.pk)
    for delivery in Delivery.objects.select_related("report__dashboard"):
        assert delivery.state == State.DELIVERED
        found = bucket.client.head_object(Bucket=bucket.name, Key=delivery.object_key)["Metadata"]
        assert unquote(found["filename"]) == delivery.report.filename
        assert found["report-id"] == str(delivery.report_id)
        assert found["rendered-at"] == delivery.report.rendered_at.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("name", "slugs", "wanted"),
    [
        ("weekly_sales 2026.pdf", ["sales", "weekly-sales"], "weekly-sales"),
        ("stock.pdf", ["sales", "weekly-sales"], ""),
        ("stock.pdf", ["sales"], "sales"),
        ("salesforce.pdf", ["sales", "x"], ""),
        ("finance-2026-03-01_0600.pdf", ["sales"], "finance"),
        ("Weekly report 20260301.pdf", [], "weekly-report"),
        ("20260301.pdf", ["sales", "x"], ""),
    ],
)
def test_the_dashboard_is_guessed_from_the_name(name: str, slugs: list[str], wanted: str) -> None:
    assert upload._dashboard(name, slugs) == wanted


def test_the_upload_page_needs_the_permission_to_add_reports(client: Client, admin_client: Client) -> None:
    from django.contrib.auth.models import Permission, User

    page, guess = reverse("admin:reports_report_upload"), reverse("admin:reports_report_upload_guess")
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_report"))
    client.force_login(user)
    assert client.get(page).status_code == 403
    assert client.post(guess, "[]", content_type="application/json").status_code == 403
    assert "Upload reports" not in client.get(reverse("admin:reports_report_changelist")).content.decode()
    assert admin_client.get(page).status_code == 200
    for form, field in (({}, "file"), ({"file": SimpleUploadedFile("a.pdf", b"%PDF-")}, "rendered_at")):
        answer = admin_client.post(page, form)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    for body in ("x", "{}", "[1]", '[{"name": "a"}]', '[{"name": "a", "modified": 1e99}]'):
        answer = admin_client.post(guess, body, content_type="application/json")
        assert answer.status_code == (200 if body == "{}" else 400), body
