"""Evidence for one report: the package can be verified by itself, and an altered one fails verification."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pypdfium2
import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import file_response, signing, verifier
from anaphora.deliveries.manifest_models import Manifest
from anaphora.deliveries.models import Delivery
from anaphora.reports.ingest import IngestError
from anaphora.reports.models import Dashboard, Report
from delivery_s3.models import S3Interface
from tests.support import archives
from tests.support.archives import FIRST, deliver_on, write
from tests.support.buckets import Bucket
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db

verify = verifier.module()


@pytest.fixture
def report(interface: S3Interface) -> Report:
    """Return one of three reports of the first of four days. The key was rotated after the second day."""
    make_policy(interface)
    Dashboard.objects.create(slug="sales", title="Umsätze (brutto) \\ 売上")
    rows = deliver_on(interface, FIRST, 3)
    write(interface, FIRST + timedelta(days=1))
    signing.make_key()
    write(interface, FIRST + timedelta(days=3))
    return rows[1].report


@pytest.fixture
def package(report: Report, tmp_path: Path) -> Path:
    path = tmp_path / "evidence.zip"
    call_command("evidence", str(report.pk), "--output", str(path), stdout=io.StringIO())
    return path


def test_the_zip_verifies_by_itself(package: Path, report: Report, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(package, folder)
    assert [path.name for path in tmp_path.glob(".evidence-*")] == []
    key = archives.public_key(tmp_path)
    for where in (str(package), str(folder)):
        for trusted in ([], ["--public-key", str(key)]):
            command = [sys.executable, str(folder / "verify_archive.py"), where, *trusted]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout
            assert "PROVEN: the report is, byte for byte, the one listed" in result.stdout
            assert ("taken from the package itself" in result.stdout) is (not trusted)
    assert next((folder / "report").iterdir()).read_bytes() == report.local_path.read_bytes()
    assert json.loads((folder / "receipt.json").read_text())["report_id"] == str(report.pk)
    chain = json.loads((folder / "evidence.json").read_text())["chain"]
    assert [each["sequence"] for each in chain] == [1, 2, 3, 4]
    assert chain[-1]["sha256"] == Manifest.objects.get(sequence=4).sha256


def test_its_page_contains_instructions(package: Path, report: Report) -> None:
    with zipfile.ZipFile(package) as opened:
        document = pypdfium2.PdfDocument(opened.read("READ ME.pdf"))
    assert len(document) == 1
    text = document[0].get_textpage().get_text_range()
    assert "Umsätze (brutto) \\" in text
    assert report.sha256 in text
    assert "python3 verify_archive.py" in text
    assert "Not proven" in text


def spoil(package: Path, name: str, content: bytes | None) -> Path:
    """Return a copy of a package in which files whose names start with `name` are replaced or left out."""
    target = package.with_name("spoilt.zip")
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(target, "w") as copy:
        for each in source.namelist():
            if not each.startswith(name):
                copy.writestr(each, source.read(each))
            elif content is not None:
                copy.writestr(each, content)
    return target


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("report/", b"another", "report-"),
        ("report/", None, "report-missing"),
        ("evidence.json", b"{}", "evidence-incomplete"),
        ("evidence.json", b"[" * 100_000, "evidence-incomplete"),
        ("evidence.json.sig", b"x" * 64, "signature-wrong"),
        ("evidence.json.sig", None, "evidence-incomplete"),
        ("manifest/", b"{}\n", "evidence-incomplete"),
        ("manifest/2026-03-01.jsonl.sig", b"x" * 64, "signature-wrong"),
        ("keys/", b"no key", "evidence-incomplete"),
    ],
)
def test_an_altered_package_proves_nothing(
    package: Path, tmp_path: Path, name: str, content: bytes | None, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = archives.public_key(tmp_path)
    assert verify.main([str(spoil(package, name, content)), "--public-key", str(key), "--json"]) == 1
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert any(each.startswith(kind) for each in counts), counts


def test_a_package_of_another_key_is_not_trusted(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signing.make_key()
    key = archives.public_key(tmp_path)
    assert verify.main([str(package), "--public-key", str(key)]) == 1
    assert "unknown-key" in capsys.readouterr().out


def test_without_a_local_copy_and_with_changed_rows_the_bytes_come_from_the_store(
    report: Report, tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    report.local_path.unlink()
    Manifest.objects.filter(sequence=1).update(titles={})
    path = tmp_path / "evidence.zip"
    call_command(
        "evidence", Delivery.objects.get(report=report).object_key, "--output", str(path), stdout=io.StringIO()
    )
    assert verify.main([str(path)]) == 0


def test_missing_evidence_is_explained(report: Report, tmp_path: Path) -> None:
    new = make_report()
    cases = {str(new.pk): "No manifest lists this report yet", "nonsense": "There is no report"}
    for name, problem in cases.items():
        with pytest.raises(CommandError, match=problem):
            call_command("evidence", name, "--output", str(tmp_path / "x.zip"))
    report.local_path.write_bytes(b"x" * report.size)
    with pytest.raises(CommandError, match="not what came in"):
        call_command("evidence", str(report.pk), "--output", str(tmp_path / "x.zip"))
    with pytest.raises(CommandError, match="can't be written"):
        call_command("evidence", str(report.pk), "--output", "/nowhere/x.zip")
    assert list(tmp_path.iterdir()) == []


def verified(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    path = folder / "evidence.zip"
    path.write_bytes(content)
    status: int = verify.main([str(path)])
    capsys.readouterr()
    return status == 0


Get = Callable[[Report], tuple[int, bytes]]


@pytest.fixture(params=["api", "page"])
def get(request: pytest.FixtureRequest, client: Client) -> Get:
    if request.param == "page":
        user = User.objects.create_user("viewer")
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_report", "read_report"]))
        client.force_login(user)
    token = tokens.create("reader", [Scope.READ])[1]

    def fetch(report: Report) -> tuple[int, bytes]:
        api = f"/api/v1/reports/{report.pk}/evidence"
        address = api if request.param == "api" else f"/reports/{report.pk}/evidence/"
        answer = client.get(address, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.getvalue()

    return fetch


def test_by_api_and_from_the_timeline(
    report: Report, get: Get, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, content = get(report)
    assert status == 200
    assert verified(content, tmp_path, capsys)
    assert get(make_report())[0] == 404
    assert b"No manifest lists" in get(make_report())[1]


def test_a_full_disk_is_explained(report: Report, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> None:
        raise IngestError("file", "There is no space left.")

    monkeypatch.setattr(file_response, "check_space", full)
    status, content = get(report)
    assert status == 404
    assert b"no space left" in content


def test_the_timeline_links_to_it(report: Report, admin_client: Client) -> None:
    page = admin_client.get("/timeline/sales/20260301T060100Z/").content.decode()
    assert f"/reports/{report.pk}/evidence/" in page
