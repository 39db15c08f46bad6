"""The files that the inbox refused, and their page."""

import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from anaphora.reports import inbox, inbox_refused
from anaphora.reports.models import Report
from tests.reports.test_inbox import box, lying, put  # noqa: F401  # box is a fixture

pytestmark = pytest.mark.django_db
PROGRAM = b"\x7fELF\x00\x01"


@pytest.fixture
def page() -> str:
    return reverse("admin:reports_report_refused")


@pytest.fixture
def refuse(box: Path) -> Callable[..., inbox_refused.RefusedFile]:  # noqa: F811
    """Return a function that makes the inbox refuse a file, and returns its entry in the list."""

    def put_and_scan(name: str = "sales/2026-03-01.pdf", content: bytes = PROGRAM) -> inbox_refused.RefusedFile:
        put(box, name, content)
        assert inbox.scan().rejected == 1
        return inbox_refused.list_refused(1)[0][0]

    return put_and_scan


def test_the_page_lists_each_file_with_its_reason_and_the_report_list_counts_them(
    admin_client: Client, refuse: Callable[..., inbox_refused.RefusedFile], page: str
) -> None:
    reports = reverse("admin:reports_report_changelist")
    assert "Refused inbox files<" in admin_client.get(reports).content.decode()
    refuse()
    refuse("stock/empty.csv", b"")
    refuse("stock/empty.csv", b"")  # the same name again
    assert "Refused inbox files (3)" in admin_client.get(reports).content.decode()
    text = admin_client.get(page).content.decode()
    for expected in ("2026-03-01.pdf", "sales", "empty.csv", "stock", "The file is empty", "Reports are not programs"):
        assert expected in text
    assert text.count("<tr>") == 4


def test_try_again_puts_a_file_back_to_be_ingested(
    admin_client: Client,
    admin_user: User,
    box: Path,  # noqa: F811
    refuse: Callable[..., inbox_refused.RefusedFile],
    page: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = refuse()
    answer = admin_client.post(page, {"file": refused.token, "retry": "1"}, follow=True)
    assert "Put back into the inbox: 2026-03-01.pdf." in answer.content.decode()
    assert lying(box) == ["sales/2026-03-01.pdf"]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.change_message) == (admin_user, "Put back into the inbox: 2026-03-01.pdf.")
    monkeypatch.setattr("anaphora.reports.content_types.describe_risk", lambda head, filename: "")
    assert inbox.scan().ingested == 1
    assert Report.objects.get().dashboard.slug == "sales"


def test_a_file_can_be_put_into_another_folder(
    admin_client: Client,
    box: Path,  # noqa: F811
    refuse: Callable[..., inbox_refused.RefusedFile],
    page: str,
) -> None:
    refused = refuse("No slug/2026-03-01.pdf", b"%PDF-1.7 x")
    assert "is not a valid slug" in refused.reason
    for wrong in ("..", "a/b", "No slug", "é", "x" * 101):
        answer = admin_client.post(page, {"file": refused.token, "retry": "1", "dashboard": wrong}, follow=True)
        assert "is not a valid slug of a dashboard" in answer.text
        assert inbox_refused.count() == 1
    admin_client.post(page, {"file": refused.token, "retry": "1", "dashboard": "sales"})
    assert lying(box) == ["sales/2026-03-01.pdf"]
    assert inbox.scan().ingested == 1


def test_remove_deletes_a_file_with_its_reason(
    admin_client: Client,
    box: Path,  # noqa: F811
    refuse: Callable[..., inbox_refused.RefusedFile],
    page: str,
) -> None:
    first, second = refuse(), refuse()
    admin_client.post(page, {"file": second.token, "remove": "1"})
    assert inbox_refused.list_refused(9) == ([first], 1)
    admin_client.post(page, {"file": first.token, "remove": "1"})
    assert lying(box) == []
    assert "no longer exists" in admin_client.post(page, {"file": first.token}, follow=True).content.decode()


def test_a_file_of_the_same_name_in_the_inbox_is_not_overwritten(
    box: Path,  # noqa: F811
    refuse: Callable[..., inbox_refused.RefusedFile],
) -> None:
    refused = refuse()
    other = put(box, "sales/2026-03-01.pdf", b"%PDF-1.7 other")
    with pytest.raises(inbox_refused.RefusedFileError, match="another file"):
        inbox_refused.put_back(refused.token)
    assert other.read_bytes() == b"%PDF-1.7 other"
    assert inbox_refused.count() == 1


def test_names_can_be_invalid_utf_8(
    admin_client: Client,
    box: Path,  # noqa: F811
    refuse: Callable[..., inbox_refused.RefusedFile],
    page: str,
) -> None:
    name = os.fsdecode(b"M\xe4rz \x1b[2J<b>.pdf")
    refused = refuse(f"sales/{name}")
    text = admin_client.get(page).content.decode()
    assert "M\\xe4rz [2J&lt;b&gt;.pdf" in text
    inbox_refused.put_back(refused.token)
    assert (box / "sales" / name).read_bytes() == PROGRAM


def test_long_names_that_begin_alike_keep_their_reasons(refuse: Callable[..., inbox_refused.RefusedFile]) -> None:
    long = "sales/" + "a" * 230
    first, second = refuse(f"{long}1.pdf"), refuse(f"{long}2.pdf")
    inbox_refused.remove(second.token)
    (kept,), _ = inbox_refused.list_refused(9)
    assert kept == first
    assert "Reports are not programs" in kept.reason


def test_a_refused_file_named_like_a_reason_is_listed_too(refuse: Callable[..., inbox_refused.RefusedFile]) -> None:
    assert refuse("sales/notes.reason.txt", b"").filename == "notes.reason.txt"
    assert inbox_refused.count() == 1


@pytest.mark.parametrize(
    "path", [b"", b"a", b"../x", b"sales/../../x", b"/etc/passwd", b"sales//x", b"a/b/c/d", b"sales/\0", b"./x"]
)
def test_no_token_gives_access_outside_the_folder(box: Path, path: bytes) -> None:  # noqa: F811
    put(box, "x")
    for act in (inbox_refused.put_back, inbox_refused.remove):
        with pytest.raises(inbox_refused.RefusedFileError):
            act(urlsafe_b64encode(path).decode())
    with pytest.raises(inbox_refused.RefusedFileError):
        inbox_refused.remove("no token ä")
    assert lying(box) == ["x"]


def test_the_number_is_that_of_the_list(refuse: Callable[..., inbox_refused.RefusedFile]) -> None:
    long = "x" * 230
    for name in ("a.pdf", "a.pdf", "a.pdf.reason.txt", "reason.txt", f"{long}1.pdf", f"{long}2.pdf", ".reason.txt"):
        refuse(f"sales/{name}")
    refuse("stock/a.pdf")
    assert inbox_refused.count() == inbox_refused.list_refused(99)[1] == 8


def test_links_are_neither_listed_nor_followed(
    box: Path,  # noqa: F811
    tmp_path: Path,
    refuse: Callable[..., inbox_refused.RefusedFile],
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.pdf").write_text("secret")
    refused = refuse()
    (box / ".rejected" / "stock").symlink_to(outside)
    (box / ".rejected" / "sales" / "link.pdf").symlink_to(outside / "secret.pdf")
    reason = box / ".rejected" / "sales" / "2026-03-01.pdf.reason.txt"
    reason.unlink()
    reason.symlink_to(outside / "secret.pdf")
    (listed,), _ = inbox_refused.list_refused(9)
    assert (listed.filename, listed.reason) == (refused.filename, "The reason file no longer exists.")
    for path in (b"stock/secret.pdf", b"sales/link.pdf"):
        with pytest.raises(inbox_refused.RefusedFileError):
            inbox_refused.put_back(urlsafe_b64encode(path).decode())
    with pytest.raises(inbox_refused.RefusedFileError):
        inbox_refused.remove(urlsafe_b64encode(b"stock/secret.pdf").decode())
    assert (outside / "secret.pdf").read_text() == "secret"


def test_only_users_who_may_add_reports_see_the_page_and_the_link(
    refuse: Callable[..., inbox_refused.RefusedFile], page: str, client: Client
) -> None:
    refused = refuse()
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_report"))
    client.force_login(user)
    assert client.get(page).status_code == 403
    assert client.post(page, {"file": refused.token, "remove": "1"}).status_code == 403
    assert "Refused inbox" not in client.get(reverse("admin:reports_report_changelist")).content.decode()
    assert inbox_refused.count() == 1


def test_the_overview_names_what_is_not_ingested(
    refuse: Callable[..., inbox_refused.RefusedFile],
    box: Path,  # noqa: F811
    client: Client,
    page: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="add_report"))
    client.force_login(user)
    overview = reverse("admin:index")
    for name in (".DS_Store", "sales.pdf.part"):
        put(box, name)
    assert "inbox" not in client.get(overview).text.lower()
    refuse()
    assert f'<a class="button" href="{page}">Open refused files</a>' in client.get(overview).text
    put(box, "loose.pdf")
    assert "1 file is in the inbox, but in no dashboard&#x27;s folder" in client.get(overview).text
    monkeypatch.setattr(django_settings, "INBOX_SETTLE_SECONDS", 60)
    assert "in no dashboard" not in client.get(overview).text
    monkeypatch.setattr(django_settings, "INBOX_DIR", box / "gone")
    assert client.get(overview).status_code == 200


def test_without_an_inbox_the_page_says_so(
    admin_client: Client, page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(django_settings, "INBOX_DIR", None)
    assert "<code>INBOX_DIR</code> is not set" in admin_client.get(page).content.decode()
    assert admin_client.post(page, {"file": "x"}).status_code == 200
    assert "Refused inbox" not in admin_client.get(reverse("admin:reports_report_changelist")).content.decode()
    monkeypatch.setattr(django_settings, "INBOX_DIR", tmp_path / "gone")
    answer: Any = admin_client.get(page)
    assert "cannot be read: No such file" in answer.content.decode().replace("&#x27;", "'")
    assert admin_client.get(reverse("admin:reports_report_changelist")).status_code == 200
