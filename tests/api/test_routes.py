"""The API as a renderer uses it."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from anaphora.api import routes, tokens
from anaphora.api.models import ApiToken, Scope
from anaphora.deliveries.engine import deliver_due
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report

pytestmark = pytest.mark.django_db
REPORTS = "/api/v1/reports"


@pytest.fixture(autouse=True)
def no_memory_of_rates() -> None:
    cache.clear()


@pytest.fixture
def token() -> str:
    return tokens.create("renderer", [Scope.INGEST, Scope.READ])[1]


def post(
    client: Client, token: str | None, content: bytes = b"%PDF-1.7 x", name: str = "sales.pdf", **form: Any
) -> Any:
    file = io.BytesIO(content)
    file.name = name
    values = {"dashboard": "sales", "rendered_at": "2026-03-01T14:00:00+01:00", "file": file} | form
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.post(REPORTS, {key: value for key, value in values.items() if value is not None}, headers=headers)


def problem(answer: Any) -> tuple[int, str, str]:
    assert answer["Content-Type"] == "application/problem+json"
    found = json.loads(answer.content)
    assert found["status"] == answer.status_code
    assert found["title"]
    return found["status"], found["field"], found["detail"]


class TestIngest:
    def test_a_report_comes_in_and_again_is_the_same(self, client: Client, token: str) -> None:
        first, second = post(client, token), post(client, token, name="other.pdf")
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json() == second.json()
        report = Report.objects.get()
        assert first.json()["id"] == str(report.pk)
        assert first.json()["rendered_at"] == "2026-03-01T13:00:00Z"
        assert report.local_path.read_bytes() == b"%PDF-1.7 x"
        assert list((settings.DATA_DIR / "uploads").iterdir()) == []

    def test_it_asks_the_database_seldom(self, client: Client, token: str, interface: S3Interface) -> None:
        make_policy(interface)
        post(client, token)  # which creates the dashboard, and notes that the token was used
        with CaptureQueriesContext(connection) as queries:
            assert post(client, token, b"%PDF-1.7 y").status_code == 201
        asked = [query["sql"] for query in queries.captured_queries if "SAVEPOINT" not in query["sql"]]
        # Token, dashboard, report, audit trail, policies, delivery. The message to a worker comes after the commit.
        assert len(asked) == 6, asked

    @pytest.mark.parametrize(
        ("changes", "status", "field", "words"),
        [
            ({"dashboard": None}, 422, "dashboard", "required"),
            ({"dashboard": "Sales 2026"}, 422, "dashboard", "letters, digits"),
            ({"rendered_at": None}, 422, "rendered_at", "required"),
            ({"rendered_at": "yesterday"}, 422, "rendered_at", "datetime"),
            ({"rendered_at": "2026-03-01T14:00:00"}, 422, "rendered_at", "time zone"),
            ({"file": None}, 422, "file", "required"),
            ({"content": b""}, 422, "file", "empty"),
            ({"name": "ü" * 200}, 422, "filename", "255"),
        ],
    )
    def test_bad_input_is_named(
        self, client: Client, token: str, changes: dict[str, Any], status: int, field: str, words: str
    ) -> None:
        found = problem(post(client, token, **changes))
        assert found[:2] == (status, field)
        assert words in found[2]
        assert not Report.objects.exists()

    def test_what_is_no_report_is_unsupported(
        self, client: Client, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "INGEST_OTHER_TYPES", [])
        assert problem(post(client, token, b"\x00\x01"))[:2] == (415, "file")

    def test_too_large_is_told_before_the_body_is_read(
        self, client: Client, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "INGEST_MAX_BYTES", 1000)
        assert problem(post(client, token, b"%PDF-" + b"x" * 1000))[:2] == (413, "file")
        assert problem(post(client, token, b"%PDF-" + b"x" * 200_000))[:2] == (413, "file")

    def test_a_full_disk_is_507_and_nothing_is_half_written(
        self, client: Client, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "MIN_FREE_MB", 10**9)
        status, field, detail = problem(post(client, token))
        assert (status, field) == (507, "file")
        assert "MIN_FREE_MB" in detail
        assert not Report.objects.exists()
        assert not [path for path in (settings.DATA_DIR / "reports").rglob("*") if path.is_file()]

    def test_a_body_that_is_not_what_it_says(self, client: Client, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        for content_type in (
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "multipart/form-data; boundary=é",
        ):
            answer = client.post(REPORTS, b"--y\r\nnonsense", content_type=content_type, headers=headers)
            assert problem(answer)[0] in {400, 422}, content_type

    def test_frequent_mistakes_are_explained(self, client: Client, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        files = [io.BytesIO(b"%PDF-1.7 1"), io.BytesIO(b"%PDF-1.7 2")]
        for number, file in enumerate(files):
            file.name = f"{number}.pdf"
        for more in ({"file": files}, {"file": files[0], "other": files[1]}):
            values = {"dashboard": "sales", "rendered_at": "2026-03-01T06:00:00Z"} | more
            found = problem(client.post(REPORTS, values, headers=headers))
            assert found[:2] == (422, "file")
            assert "several files" in found[2]
            [file.seek(0) for file in files]
        body = {"dashboard": "sales", "rendered_at": "2026-03-01T06:00:00Z"}
        answer = client.post(REPORTS, json.dumps(body), content_type="application/json", headers=headers)
        assert problem(answer)[2].endswith("Send the report as multipart/form-data.")
        answer = client.post(REPORTS, body | {"file": "report.pdf"}, headers=headers)
        assert problem(answer)[2].endswith("-F file=@report.pdf.")
        assert "2026-03-01T06:00:00Z" in problem(post(client, token, rendered_at="soon"))[2]
        assert Report.objects.count() == 0

    def test_a_body_of_unknown_length_is_told_what_is_missing(self, client: Client, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "Transfer-Encoding": "chunked"}
        request = client.generic("POST", REPORTS, b"", "multipart/form-data; boundary=x", headers=headers)
        assert problem(request)[0] == 411

    def test_it_is_on_its_way_at_once(self, client: Client, token: str, interface: S3Interface) -> None:
        make_policy(interface)
        made = post(client, token).json()
        assert [place["state"] for place in made["deliveries"]] == ["pending"]
        deliver_due(interface.pk)
        shown = client.get(f"{REPORTS}/{made['id']}", headers={"Authorization": f"Bearer {token}"}).json()
        assert shown["deliveries"][0]["state"] == "delivered"
        assert shown["deliveries"][0]["detail"].startswith("sales/2026/03/01/20260301T130000Z_")

    def test_too_many_are_asked_to_wait(self, client: Client, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routes.THROTTLES[0], "num_requests", 2)
        assert [post(client, token).status_code for _ in range(2)] == [201, 200]
        answer = post(client, token)
        assert problem(answer)[0] == 429
        assert int(answer["Retry-After"]) >= 1


class TestTokens:
    def test_without_a_valid_token_nothing_happens(self, client: Client, token: str) -> None:
        for wrong in (None, "", "anaphora_wrong", token + "x"):
            answer = post(client, wrong)
            assert problem(answer)[0] == 401
            assert answer["WWW-Authenticate"] == "Bearer"
        assert not Report.objects.exists()

    def test_scopes_are_kept_apart(self, client: Client) -> None:
        reader, writer = tokens.create("reader", [Scope.READ])[1], tokens.create("writer", [Scope.INGEST])[1]
        assert problem(post(client, reader))[0] == 403
        report = make_report()
        address = f"{REPORTS}/{report.pk}"
        assert problem(client.get(address, headers={"Authorization": f"Bearer {writer}"}))[0] == 403
        assert client.get(address, headers={"Authorization": f"Bearer {reader}"}).status_code == 200

    def test_expired_and_revoked_ones_are_worthless(self, client: Client) -> None:
        row, expired = tokens.create("old", [Scope.INGEST], timezone.now() - timedelta(seconds=1))
        assert problem(post(client, expired))[0] == 401
        row, plain = tokens.create("new", [Scope.INGEST], timezone.now() + timedelta(hours=1))
        assert post(client, plain).status_code == 201
        assert tokens.revoke([row]) == 1
        assert problem(post(client, plain))[0] == 401

    def test_only_a_hash_is_kept_and_the_last_use_is_noted(self, client: Client, token: str) -> None:
        post(client, token)
        row = ApiToken.objects.get()
        assert row.last_used_at is not None
        assert timezone.now() - row.last_used_at < timedelta(minutes=1)
        assert token not in str(vars(row))
        assert token.startswith(row.beginning)

    def test_the_command_prints_it_last_and_once(self) -> None:
        out = io.StringIO()
        call_command("create_api_token", "renderer", "--scope", "ingest", "--scope", "read", "--days", "30", stdout=out)
        row = tokens.check(out.getvalue().split()[-1])
        assert row is not None
        assert row.scopes == ["ingest", "read"]
        assert row.expires_at is not None

    def test_the_admin_shows_it_once_and_can_revoke_it(self, admin_client: Client) -> None:
        add = reverse("admin:api_apitoken_add")
        answer = admin_client.post(add, {"name": "renderer", "scopes": ["ingest"]})
        assert "no-store" in answer["Cache-Control"]
        page = answer.content.decode()
        plain = next(word for word in page.replace("<", " ").replace(">", " ").split() if word.startswith("anaphora_"))
        row = tokens.check(plain)
        assert row is not None
        change = reverse("admin:api_apitoken_change", args=[row.pk])
        listed = admin_client.get(reverse("admin:api_apitoken_changelist")).content.decode()
        assert plain not in listed + admin_client.get(change).content.decode()
        assert row.beginning in listed
        chosen = {"action": "revoke", "_selected_action": [row.pk]}
        admin_client.post(reverse("admin:api_apitoken_changelist"), chosen)
        assert tokens.check(plain) is None
        history = admin_client.get(reverse("admin:api_apitoken_history", args=[row.pk])).content.decode()
        assert "Revoked" in history
        assert plain not in history


def test_an_unknown_report_is_not_found(client: Client, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    assert problem(client.get(f"{REPORTS}/00000000-0000-0000-0000-000000000000", headers=headers))[0] == 404
    assert problem(client.get(f"{REPORTS}/1", headers=headers))[0] == 422


def test_the_description_is_there_with_its_page(client: Client) -> None:
    described = client.get("/api/v1/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/v1/reports",
        "/api/v1/reports/{report_id}",
        "/api/v1/reports/{report_id}/content",
        "/api/v1/reports/{report_id}/evidence",
        "/api/v1/dashboards",
        "/api/v1/dashboards/{slug}/as-of/{when}",
    }
    page = client.get("/api/v1/docs").content.decode()
    assert "cdn" not in page, "it must work without the internet"
    assert 'href="/api/v1/openapi.json"' in page
    for path, methods in described["paths"].items():
        assert path in page
        assert all(operation["description"].split("\n")[0] in page for operation in methods.values())


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize("path", ["reports", "dashboards", "dashboards/sales/as-of/2026-03-01"])
def test_a_wrong_method_is_a_problem_in_words(client: Client, method: str, path: str) -> None:
    answer = getattr(client, method)(f"/api/v1/{path}")
    assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
    assert answer["Allow"]
    assert answer.json()["detail"].startswith(f"{method.upper()} is not allowed. Allowed methods: ")
