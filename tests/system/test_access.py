"""Every URL and API route responds to each role as documented in the table of docs/access.md."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth.models import Group, User
from django.http import HttpResponseBase
from django.test import Client
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.operations.audit_models import AuditEntry
from anaphora.operations.models import Alert
from delivery_s3.models import S3Interface
from tests.folder_destination.models import FolderInterface
from tests.support.addresses import one_of_each, patterns
from tests.support.processes import ROOT
from tests.timeline.test_previews import png

pytestmark = pytest.mark.django_db

PAGE = ROOT / "docs" / "access.md"
ROLES = ["anonymous", "Viewer", "Uploader", "Operator", "Auditor", "Administrator"]
PROBES = ["healthz/live", "healthz/ready", "metrics"]
"""Handled by a middleware, so they are not in the URL resolver."""

SAMPLE, S3 = "folder_destination/folderinterface", "delivery_s3/s3interface"
"""The sample kind of interface, which is not documented: it responds like the S3 interface."""


def shown(pattern: str) -> str:
    """Return a URL pattern in the notation of the documentation."""
    pattern = re.sub(r"\(\?P<app_label>[^)]*\)", "<app_label>", pattern)
    pattern = re.sub(r"\(\?P<(\w+)>[^()]*(\([^)]*\))?[^()]*\)", r"<\1>", pattern)
    return pattern.replace("^", "").replace("$", "").replace(r"\Z", "")


def all_patterns() -> list[str]:
    return list(dict.fromkeys([*(shown(pattern) for pattern, _ in patterns()), *PROBES]))


def documented() -> dict[str, list[str]]:
    """Return the rows of the table: a pattern, and the response to each role."""
    rows = [line.strip("| ").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `/")]
    return {row[0].strip().strip("`").removeprefix("/"): [cell.strip() for cell in row[1:]] for row in rows}


def word(response: HttpResponseBase) -> str:
    """Return a response in the words of the table."""
    if response.status_code in {301, 302}:
        return "login" if "/login/" in response.headers["Location"] else "redirect"
    return {401: "token", 403: "no", 404: "404", 405: "405"}.get(response.status_code, "yes")


@pytest.fixture
def places(interface: S3Interface, tmp_path: Path, settings: Any) -> dict[str, str]:
    """Existing values for each URL parameter and each model."""
    settings.METRICS_TOKEN = "of the scraper"
    everything = one_of_each(interface, png())
    folder = FolderInterface.objects.create(name="folder", folder=str(tmp_path))
    crontab, _ = CrontabSchedule.objects.get_or_create(minute="7")
    rows = {
        "reports/report": everything["report"],
        "reports/dashboard": everything["report"].dashboard,
        "deliveries/delivery": everything["delivery"],
        "deliveries/interface": interface,
        "deliveries/archivepolicy": everything["policy"],
        "delivery_s3/s3interface": interface,
        SAMPLE: folder,
        "api/apitoken": everything["apitoken"],
        "operations/alertchannel": everything["channel"],
        "operations/auditentry": AuditEntry.objects.latest("id"),
        "operations/alert": Alert.objects.create(key="key", title="alert"),
        "auth/user": User.objects.create_user("somebody"),
        "auth/group": Group.objects.create(name="some"),
        "axes/accessattempt": AccessAttempt.objects.create(username="x", failures_since_start=1),
        "axes/accesslog": AccessLog.objects.create(username="x"),
        "axes/accessfailurelog": AccessFailureLog.objects.create(username="x"),
        "django_celery_beat/crontabschedule": crontab,
        "django_celery_beat/periodictask": PeriodicTask.objects.create(name="own", task="x", crontab=crontab),
    }
    found = {f"admin/{model}/": str(row.pk) for model, row in rows.items()}
    return found | {
        "<path:content_type_id>": "1",
        "<app_label>": "reports",
        "<url>": "nowhere",
        "<slug>": "confidential-slug",
        "<slug:slug>": "confidential-slug",
        "<instant>": "20260302T000000Z",
        "<when>": "2026-03-02",
        "<report_id>": str(everything["report"].pk),
        "<uuid:pk>": str(everything["report"].pk),
        "<int:number>": "1",
        "<str:ending>": "csv",
    }


QUERIES = {"admin/autocomplete/": "app_label=deliveries&model_name=archivepolicy&field_name=dashboards"}


def path_of(pattern: str, places: dict[str, str]) -> str:
    query = QUERIES.get(pattern)
    row = next((key for start, key in places.items() if start.startswith("admin/") and pattern.startswith(start)), "1")
    pattern = re.sub(r"<(path:object_id|int:pk|id)>", row, pattern)
    for parameter, value in places.items():
        pattern = pattern.replace(parameter, value) if parameter.startswith("<") else pattern
    assert "<" not in pattern, f"the test does not know what to put into {pattern}"
    return f"/{pattern}?{query}" if query else f"/{pattern}"


def form_for(pattern: str, interface: S3Interface) -> dict[str, str]:
    """Return the values for a POST: none, unless an empty form would be refused for every role."""
    if not pattern.endswith("/remove/"):
        return {}
    names = ["access_key_id", "region", "bucket_name", "endpoint_url", "ca_bundle", "addressing_style"]
    values = {name: getattr(interface, name) for name in names}
    secret = interface.secret_access_key.reveal()
    return values | {"name": f"{interface} 2", "provider": "other", "allow_http": "on",
                     "secret_access_key": secret, "key": "connection.test/none"}  # fmt: skip


def client_of(role: str) -> Client:
    client = Client(raise_request_exception=False)
    if role != "anonymous":
        user, _ = User.objects.get_or_create(username=role, is_staff=role != "Viewer")
        user.groups.set(Group.objects.filter(name=role))
        client.force_login(user)
    return client


def answers(role: str, places: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each pattern with the response to a role: to GET and, if different, to an empty POST.

    Methods that a URL does not support are left out.
    """
    client = client_of(role)
    for pattern in all_patterns():
        path = path_of(pattern, places)
        words = []
        for send in (client.get, partial(client.post, data=form_for(pattern, S3Interface.objects.get()))):
            response = send(path)
            assert response.status_code < 500 or pattern in PROBES, (role, path)
            if response.streaming:
                response.getvalue()
            words.append(word(response))
            if "logout" in path:
                client = client_of(role)
        yield pattern, "/".join(dict.fromkeys(each for each in words if each != "405"))


OFTEN = {"anonymous", "Viewer", "Operator"}
"""The roles that are tested also outside the heavy tests."""


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=[] if role in OFTEN else pytest.mark.heavy) for role in ROLES]
)
def test_every_url_answers_as_documented(role: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anaphora.deliveries.tasks.backfill.delay", lambda policy: None)
    table, wrong = documented(), []
    for pattern, answer in answers(role, places):
        row = table.get(pattern.replace(SAMPLE, S3))
        expected = row[ROLES.index(role)] if row else "no row"
        if answer != expected:
            wrong.append(f"/{pattern}: {role} gets {answer}, documented: {expected}")
    assert wrong == []


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=[] if role in OFTEN else pytest.mark.heavy) for role in ROLES[1:]]
)
def test_no_link_leads_to_a_page_that_the_role_may_not_open(role: str, places: dict[str, str]) -> None:
    """Follow all links from the start page. Links that differ only in their queries count as one."""
    client, seen, found = client_of(role), {"/"}, ["/"]
    dead = []
    for path in found:
        response: Any = client.get(path, follow=True)
        if response.status_code != 200:
            dead.append((path, response.status_code))
        content = response.getvalue() if response.streaming else response.content
        page = content.decode() if response["Content-Type"].startswith("text/html") else ""
        for link in re.findall(r'href="(/[^"#?]*)', page):
            if link not in seen and not link.startswith("/static/"):
                seen.add(link)
                found.append(link)
    assert dead == []
    assert len(found) > 5


def test_the_table_has_no_rows_of_removed_pages() -> None:
    assert set(documented()) - set(all_patterns()) == set()


@pytest.mark.parametrize(("scope", "column"), [(None, 0), (Scope.INGEST, 1), (Scope.READ, 2)])
def test_every_route_answers_each_scope_as_documented(scope: Scope | None, column: int, places: dict[str, str]) -> None:
    text = PAGE.read_text().partition("## API tokens")[2]
    rows = re.findall(r"^\| `(GET|POST) /([^`]+)` \|(.+)\|$", text, re.MULTILINE)
    routes = {pattern for pattern in all_patterns() if re.match(r"api/v1/(reports|dashboards)", pattern)}
    assert {path for _, path, _ in rows} == routes
    token = tokens.create("x", [scope])[1] if scope else "unknown"
    for method, pattern, cells in rows:
        response = Client().generic(method, path_of(pattern, places), headers={"Authorization": f"Bearer {token}"})
        if response.streaming:
            response.getvalue()
        assert word(response) == cells.split("|")[column].strip(), (method, pattern, response.status_code)
