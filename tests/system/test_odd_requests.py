"""Requests that our pages do not send get a proper error response, whatever they contain."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AccessRefused
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from anaphora.api import tokens
from anaphora.api.models import ApiToken, Scope
from anaphora.deliveries import tasks
from anaphora.deliveries.models import Delivery
from anaphora.reports.models import Dashboard
from anaphora.timeline import tasks as timeline_tasks
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT, printed_by, worker_environment
from tests.timeline.test_previews import png

pytestmark = pytest.mark.django_db

GUESS = "/admin/reports/report/upload/guess/"


@pytest.fixture
def on_commit(django_capture_on_commit_callbacks: Any) -> Any:
    return django_capture_on_commit_callbacks


def ingesting(client: Client) -> Any:
    _, token = tokens.create("renderer", [Scope.INGEST])
    form = {"dashboard": "sales", "rendered_at": "2026-03-01T06:00:00Z", "file": io.BytesIO(b"%PDF-1.7 x")}
    return client.post("/api/v1/reports", form, headers={"Authorization": f"Bearer {token}"})


class TestBroker:
    def test_a_password_refused_by_the_broker_does_not_affect_the_client(
        self,
        client: Client,
        interface: S3Interface,
        monkeypatch: pytest.MonkeyPatch,
        on_commit: Any,
    ) -> None:
        make_policy(interface)

        def refuse(*args: Any) -> None:
            raise AccessRefused("ACCESS_REFUSED - Login was refused")

        monkeypatch.setattr(tasks.deliver_due, "delay", refuse)
        with on_commit(execute=True):
            assert ingesting(client).status_code == 201
        assert Delivery.objects.count() == 1

    def test_a_bug_in_sending_a_message_does_not_affect_the_client(
        self,
        client: Client,
        interface: S3Interface,
        monkeypatch: pytest.MonkeyPatch,
        on_commit: Any,
    ) -> None:
        make_policy(interface)

        def fail(interface_id: int) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(tasks, "request_delivery", fail)
        with on_commit(execute=True):
            assert ingesting(client).status_code == 201

    def test_a_refused_password_breaks_no_page(
        self, admin_client: Client, interface: S3Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = make_policy(interface)
        report = make_report(png(), filename="a.png")

        def refuse(*args: Any) -> None:
            raise AccessRefused("ACCESS_REFUSED - Login was refused")

        monkeypatch.setattr(tasks.backfill, "delay", refuse)
        monkeypatch.setattr(timeline_tasks.make_preview, "delay", refuse)
        backfill = admin_client.post(f"/admin/deliveries/archivepolicy/{policy.pk}/backfill/", follow=True)
        assert "The backfill was not started" in backfill.content.decode()
        assert admin_client.get(f"/reports/{report.pk}/preview/").status_code == 404

    @pytest.mark.django_db(transaction=True)
    def test_an_unresponsive_redis_delays_nobody(self, interface: S3Interface, tmp_path: Path) -> None:
        make_policy(interface)
        (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 x")
        with servers.silent() as port:
            before = time.monotonic()
            environment = worker_environment() | {"CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
            command = [sys.executable, "manage.py", "ingest", str(tmp_path / "a.pdf"), "--dashboard", "sales"]
            printed_by([*command, "--rendered-at", "2026-03-01T06:00:00Z"], ROOT, environment)
            assert time.monotonic() - before < 60
        assert Delivery.objects.count() == 1


class TestRequests:
    def test_a_range_of_five_thousand_digits(self, admin_client: Client) -> None:
        report = make_report()
        for value in (f"bytes=0-{'9' * 5000}", f"bytes={'1' * 5000}-", "bytes=\u0661-\u0662"):
            answer = admin_client.get(f"/reports/{report.pk}/file/", headers={"Range": value})
            assert answer.status_code == 200
            assert answer.getvalue() == report.local_path.read_bytes()

    @pytest.mark.parametrize(
        "body",
        [
            "[" * 100_000,
            '[{"name": "a", "modified": 1e300}]',
            '[{"name": "a", "modified": "nan"}]',
            '[{"name": "a", "modified": 253402300799}]',
            '[{"name": "a", "modified": -62135596800}]',
            json.dumps([{"name": "sales", "modified": 0}] * 60_000),
        ],
    )
    def test_the_number_of_guesses_is_limited(self, admin_client: Client, body: str, settings: Any) -> None:
        settings.TIME_ZONE = "Pacific/Kiritimati"
        Dashboard.objects.create(slug="sales")
        before = time.monotonic()
        answer = admin_client.post(GUESS, body, content_type="application/json")
        assert answer.status_code in {200, 400}
        assert time.monotonic() - before < 5

    @pytest.mark.parametrize("name", ["sessionid", "csrftoken", "messages", "zone"])
    def test_a_cookie_with_nul(self, name: str) -> None:
        client = Client()
        client.cookies[name] = "a\\000b"
        for path in ("/timeline/", "/admin/", "/login/"):
            assert client.get(path).status_code < 500
        client.cookies[name] = "a\0b"
        assert client.get("/timeline/").status_code < 500

    @pytest.mark.parametrize(
        "query", ["filename__regex=(a%2B)%2B$", "filename__iregex=a", "q=%00", "dashboard__id__exact=%00", "%00=1"]
    )
    def test_the_lookups_that_the_admin_offers_work(self, admin_client: Client, query: str) -> None:
        make_report(filename="a" * 40 + "!.pdf")
        before = time.monotonic()
        for model in ("reports_report", "deliveries_delivery", "auth_user", "delivery_s3_s3interface"):
            assert admin_client.get(f"{reverse(f'admin:{model}_changelist')}?{query}").status_code in {302, 400}
        assert time.monotonic() - before < 5

    @pytest.mark.parametrize(
        "query",
        [f"id__in={'9' * 26}", f"pk__in=1,{'9' * 26}", "rendered_at__year=9999",
         "rendered_at__year=9999&rendered_at__month=12&rendered_at__day=31",
         f"rendered_at__year=2026&rendered_at__month={'9' * 20}", "rendered_at__gt=0001-01-01 00:00:00%2B14:00"],
    )  # fmt: skip
    def test_lookups_are_limited(self, admin_client: Client, query: str) -> None:
        admin_client.raise_request_exception = False
        for model in ("reports_report", "deliveries_delivery", "auth_user"):
            assert admin_client.get(f"{reverse(f'admin:{model}_changelist')}?{query}").status_code in {302, 400}

    def test_a_lookup_with_an_empty_field(self, admin_client: Client, interface: S3Interface) -> None:
        admin_client.raise_request_exception = False
        address = reverse("admin:delivery_s3_s3interface_change", args=[interface.pk])
        assert admin_client.get(f"{address}?_to_field=").status_code == 400

    def test_its_own_filters_still_work(self, admin_client: Client) -> None:
        report = make_report()
        base = reverse("admin:reports_report_changelist")
        for query in (f"dashboard__id__exact={report.dashboard_id}", "rendered_at__year=2026&rendered_at__month=3"):
            answer = admin_client.get(f"{base}?{query}")
            assert answer.status_code == 200
            assert report.filename in answer.content.decode()


class TestApi:
    def test_an_unreachable_database_is_explained(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr("anaphora.api.routes.ingest", fail)
        answer = ingesting(client)
        assert answer.status_code == 503
        assert "Send the request again" in answer.json()["detail"]
        assert answer["Retry-After"]

    @pytest.mark.parametrize("path", ["/api/v1/nowhere", "/api/v1/reports/x/y/z", "/api/v2/reports", "/api/"])
    def test_unknown_urls_return_problems(self, client: Client, path: str) -> None:
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 404
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["detail"]

    def test_a_token_does_not_expire_at_the_calendar_s_end(self, admin_client: Client, settings: Any) -> None:
        settings.TIME_ZONE = "America/New_York"
        admin_client.raise_request_exception = False
        form = {"name": "mine", "scopes": ["read"], "expires_at_0": "9999-12-31", "expires_at_1": "23:59:59"}
        answer = admin_client.post(reverse("admin:api_apitoken_add"), form)
        assert "leave the field empty" in answer.content.decode()
        with pytest.raises(CommandError, match="Omit it"):
            call_command("create_api_token", "mine", scope=["read"], days=99_999_999)

    def test_users_cannot_grant_scopes_that_they_do_not_have(self, client: Client) -> None:
        user = User.objects.create_user("tokens", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(codename__in=["add_apitoken", "view_report", "read_report"])
        )
        client.force_login(user)
        page = client.get(reverse("admin:api_apitoken_add")).content.decode()
        assert "read reports" in page
        assert "take reports in" not in page
        client.post(reverse("admin:api_apitoken_add"), {"name": "mine", "scopes": ["ingest", "read"]})
        assert not ApiToken.objects.exists()
        client.post(reverse("admin:api_apitoken_add"), {"name": "mine", "scopes": ["read"]})
        assert ApiToken.objects.get().scopes == ["read"]
