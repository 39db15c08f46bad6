import io
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.test import Client
from django.urls import reverse

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.reports.models import Report

pytestmark = pytest.mark.django_db

TOKEN = "a" * 32


@pytest.fixture(autouse=True)
def all_files_go_to_the_disk(settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[TemporaryUploadedFile]:
    """The temporary files that were created."""
    files: list[TemporaryUploadedFile] = []
    begin = TemporaryUploadedFile.__init__

    def record(self: TemporaryUploadedFile, *args: Any, **kwargs: Any) -> None:
        files.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(TemporaryUploadedFile, "__init__", record)
    return files


class Breaking(io.BytesIO):
    """A request body after which the connection breaks."""

    def read(self, size: int | None = -1, /) -> bytes:
        if found := super().read(size):
            return found
        raise OSError("connection lost")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the temporary files that were created."""
    names: list[str] = []
    begin = TemporaryUploadedFile.__init__

    def record(self: TemporaryUploadedFile, name: str, *args: Any, **kwargs: Any) -> None:
        names.append(name)
        begin(self, name, *args, **kwargs)

    monkeypatch.setattr(TemporaryUploadedFile, "__init__", record)
    return names


def post(client: Client, path: str, **headers: str) -> Any:
    client.cookies["csrftoken"] = TOKEN
    form = {
        "csrfmiddlewaretoken": TOKEN,
        "dashboard": "sales",
        "rendered_at": "2026-03-01T06:00:00+00:00",
        "file": SimpleUploadedFile("a.pdf", b"%PDF-1.7 x" * 1000),
    }
    return client.post(path, form, headers=headers)


def user_with(*permissions: str) -> User:
    user = User.objects.create_user(f"user {permissions}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@pytest.mark.parametrize(
    "path",
    ["/", "/nowhere/", "/login/", "/admin/login/", "/admin/nowhere/", "/admin/", "/timeline/", "/api/v1/reports",
     "/api/v1/nowhere", "/admin/reports/report/upload/", "/admin/reports/report/upload/guess/"],
)  # fmt: skip
def test_an_anonymous_upload_writes_nothing_to_the_disk(path: str, written: list[str]) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    assert post(client, path).status_code in {200, 302, 401, 403, 404, 405}
    assert written == []


@pytest.mark.parametrize("permissions", [(), ("view_report",), ("change_report", "add_dashboard")])
def test_a_user_without_permission_writes_nothing(permissions: tuple[str, ...], written: list[str]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with(*permissions))
    assert post(client, reverse("admin:reports_report_upload")).status_code == 403
    assert post(client, reverse("admin:index")).status_code in {200, 405}
    assert written == []


def test_a_user_with_permission_can_upload_only_on_the_upload_page(written: list[str]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with("add_report", "view_report"))
    post(client, reverse("admin:index"))
    assert written == []
    assert post(client, reverse("admin:reports_report_upload")).json()["created"] is True
    assert written == ["a.pdf"]


def test_size_and_space_are_checked_first(written: list[str], settings: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with("add_report"))
    settings.INGEST_MAX_BYTES = 0
    settings.MIN_FREE_MB = 10**9
    answer = post(client, reverse("admin:reports_report_upload"))
    assert "The local disk is nearly full" in answer.json()["problem"]
    settings.MIN_FREE_MB = 0
    client.cookies["csrftoken"] = TOKEN
    big = SimpleUploadedFile("a.pdf", io.BytesIO(b"x" * 200_000).read())
    answer = client.post(reverse("admin:reports_report_upload"), {"csrfmiddlewaretoken": TOKEN, "file": big})
    assert "larger than" in answer.json()["problem"]
    assert written == []
    assert not Report.objects.exists()


def test_the_api_accepts_files_of_tokens_with_the_scope(written: list[str]) -> None:
    client = Client(enforce_csrf_checks=True)
    _, reader = tokens.create("reader", [Scope.READ])
    assert post(client, "/api/v1/reports", Authorization=f"Bearer {reader}").status_code == 403
    assert written == []
    _, ingester = tokens.create("renderer", [Scope.INGEST])
    assert post(client, "/api/v1/reports", Authorization=f"Bearer {ingester}").status_code == 201
    assert written == ["a.pdf"]


def test_a_small_file_is_not_written_twice(written: list[str], settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 20_000
    _, token = tokens.create("renderer", [Scope.INGEST])
    client = Client()
    assert post(client, "/api/v1/reports", Authorization=f"Bearer {token}").status_code == 201
    assert written == []
    assert Report.objects.get().local_path.read_bytes() == b"%PDF-1.7 x" * 1000
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10_000
    assert post(client, "/api/v1/reports", Authorization=f"Bearer {token}").status_code == 200
    assert written == ["a.pdf"]


@pytest.mark.parametrize("path", ["/nowhere/", "/admin/reports/report/upload/", "/api/v1/reports"])
def test_nobody_reads_a_small_file_of_a_stranger(path: str, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 20_000
    kept: list[str] = []
    monkeypatch.setattr(MemoryFileUploadHandler, "new_file", lambda self, *args: kept.append(args[1]))
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    assert post(client, path).status_code in {302, 401, 403, 404}
    assert kept == []


PART = '--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.pdf"\r\n\r\n{content}'


@pytest.mark.parametrize("second", ["", PART.format(name="other", content="%PDF-1.7 " + "y" * 200_000)])
@pytest.mark.parametrize("kind", [Breaking, io.BytesIO])
@pytest.mark.parametrize("path", ["/api/v1/reports", "/admin/reports/report/upload/"])
def test_a_broken_request_leaves_no_file_open(
    opened: list[TemporaryUploadedFile], path: str, second: str, kind: type[io.BytesIO]
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(user_with("add_report"))
    _, token = tokens.create("renderer", [Scope.INGEST])
    body = (PART.format(name="file", content="%PDF-1.7 " + "x" * 200_000) + "\r\n" + (second or "--x\r\nCont")).encode()
    surroundings: dict[str, Any] = {"wsgi.input": kind(body), "CONTENT_LENGTH": str(len(body) + 10_000)}
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.generic("POST", path, body, "multipart/form-data; boundary=x", headers=headers, **surroundings)
    assert answer.status_code >= 400
    assert len(opened) == (2 if second else 1)
    assert all(file.closed for file in opened)
    assert not any(Path(file.temporary_file_path()).exists() for file in opened)
    assert not Report.objects.exists()
