"""The audit trail: actors, omitted values, failures to write, the page, the export and the retention."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from anaphora.activity import Action, record
from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import signing
from anaphora.deliveries.models import Delivery, State
from anaphora.operations import audit, tasks
from anaphora.operations.audit_export import as_csv
from anaphora.operations.audit_models import ActorKind, AuditEntry
from anaphora.operations.models import AlertChannel
from anaphora.reports import tasks as report_tasks
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import previews
from delivery_s3.models import S3Interface
from tests.folder_destination.models import FolderInterface
from tests.support.factories import make_policy, make_report
from tests.support.processes import ROOT, printed_by, worker_environment
from tests.timeline.test_previews import png

pytestmark = pytest.mark.django_db

LIST = "admin:operations_auditentry_changelist"
EXPORT = "admin:operations_auditentry_export"


@pytest.fixture
def reader(client: Client) -> Client:
    user = User.objects.create_user("grace")
    user.groups.add(Group.objects.get(name="Viewer"))
    client.force_login(user)
    return client


def last() -> AuditEntry:
    found: AuditEntry = AuditEntry.objects.latest("id")
    return found


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def make_entries(number: int, **changes: Any) -> None:
    now = timezone.now()
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                **{
                    "at": now - timedelta(minutes=each),
                    "actor": f"user {each % 7}",
                    "actor_kind": ActorKind.USER,
                    "action": Action.VIEWED,
                    "object_type": "reports.report",
                    "object_id": str(each),
                    "object": f"report {each}",
                    "address": "192.0.2.1",
                }
                | changes
            )
            for each in range(number)
        ],
        batch_size=5_000,
    )


class TestActors:
    @pytest.mark.django_db(transaction=True)
    def test_a_command_is_attributed_to_the_system_user(self, tmp_path: Path) -> None:
        (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 x")
        manage, environment = [sys.executable, "manage.py"], worker_environment() | {"LOGNAME": "operator"}
        printed_by([*manage, "ingest", str(tmp_path / "a.pdf"), "--dashboard", "sales"], ROOT, environment)
        more = {"DJANGO_SUPERUSER_PASSWORD": "the-secret-password"}
        command = [*manage, "createsuperuser", "--noinput", "--username=eve", "--email=eve@example.com"]
        printed_by(command, ROOT, environment | more)
        rows = AuditEntry.objects.order_by("id").values_list("action", "object_type", "actor", "actor_kind", "via")
        assert list(rows) == [
            ("created", "reports.dashboard", "operator", "command", "command ingest"),
            ("uploaded", "reports.report", "operator", "command", "command ingest"),
            ("created", "auth.user", "operator", "command", "command createsuperuser"),
        ]
        assert last().details["fields"]["password"] == "set"

    def test_rotations_of_keys_are_recorded(self, interface: S3Interface, settings: Any) -> None:
        call_command("rotate_signing_key", stdout=io.StringIO())
        assert (last().action, last().object) == ("changed", "signing key")
        assert last().details == {"fingerprint": signing.current().fingerprint}
        settings.FERNET_KEYS = ["a newer key", *settings.FERNET_KEYS]
        call_command("rotate_fernet_keys", stdout=io.StringIO())
        assert (last().action, last().object, last().actor_kind) == ("changed", "FERNET_KEYS", ActorKind.COMMAND)
        assert last().details == {"reencrypted": 2, "not_decrypted": 0}

    def test_the_inbox_is_a_service(self, tmp_path: Path, settings: Any) -> None:
        settings.INBOX_DIR, settings.INBOX_SETTLE_SECONDS = tmp_path, 0
        (tmp_path / "sales").mkdir()
        file = tmp_path / "sales" / "a.pdf"
        file.write_bytes(b"%PDF-1.7 x")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        for _ in range(2):
            report_tasks.scan_inbox.apply()
        assert Report.objects.count() == 1
        entry = AuditEntry.objects.get(action=Action.UPLOADED)
        assert (entry.actor_kind, entry.via) == (ActorKind.SERVICE, "task reports.scan_inbox")

    def test_a_change_after_a_request_is_not_attributed_to_its_user(self, reader: Client) -> None:
        reader.get("/timeline/")
        Dashboard.objects.create(slug="sales")
        assert last().actor_kind == ActorKind.COMMAND

    def test_behind_a_proxy_the_client_s_address_is_recorded(self, reader: Client, settings: Any) -> None:
        report = make_report()
        settings.HTTPS = True
        headers = {"X-Forwarded-For": "192.0.2.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
        reader.get(f"/reports/{report.pk}/file/", headers=headers).getvalue()
        assert last().address == "203.0.113.9"


class TestSignIns:
    def test_a_lockout_is_recorded_once(self, client: Client, settings: Any) -> None:
        settings.AXES_FAILURE_LIMIT = 3
        User.objects.create_user("grace", password="right")
        for _ in range(6):
            client.post(reverse("login"), {"username": "grace", "password": "wrong-and-secret"})
        assert actions()[1:] == ["sign_in_refused", "sign_in_refused", "locked_out"]
        assert (last().actor, last().actor_kind, last().address) == ("grace", "nobody", "127.0.0.1")
        assert "wrong-and-secret" not in json.dumps(list(AuditEntry.objects.values("object", "details")))

    def test_requests_with_an_invalid_api_token_are_recorded_once_an_hour_per_address(self) -> None:
        plain = tokens.create("reader", [Scope.READ])[1]
        AuditEntry.objects.all()._raw_delete("default")
        for address, header in (
            ("127.0.0.1", "Bearer anaphora_wrong"),
            ("127.0.0.1", "Bearer anaphora_other"),
            ("192.0.2.7", "Bearer anaphora_wrong"),
        ):
            answer = Client(REMOTE_ADDR=address).get("/api/v1/dashboards", headers={"Authorization": header})
            assert answer.status_code == 401
        assert Client().get("/api/v1/dashboards").status_code == 401, "nothing was guessed"
        assert Client().get("/api/v1/dashboards", headers={"Authorization": f"Bearer {plain}"}).status_code == 200
        found = AuditEntry.objects.filter(action=Action.SIGN_IN_REFUSED).order_by("id")
        assert [(each.address, each.object, each.via, each.actor_kind) for each in found] == [
            ("127.0.0.1", "invalid API token", "API", ActorKind.NOBODY),
            ("192.0.2.7", "invalid API token", "API", ActorKind.NOBODY),
        ]
        assert "anaphora_wrong" not in json.dumps(list(AuditEntry.objects.values("object", "details", "actor")))

    def test_an_entered_name_cannot_imitate_another_line_or_name(self, client: Client) -> None:
        for name in ("eve\r\nroot", "\u202eecarg", "\x1b[2Jeve", "x" * 1_000_000):
            client.post(reverse("login"), {"username": name, "password": "x"})
            entry = last()
            assert entry.actor.isprintable(), name[:20]
            assert entry.object.isprintable(), name[:20]
            assert len(entry.actor) <= 150, name[:20]


class TestChanges:
    def test_people_and_groups(self, admin_client: Client) -> None:
        user, group = User.objects.create_user("grace", password="first-password"), Group.objects.create(name="Team")
        user.groups.add(group)
        assert last().details == {"fields": {"groups": {"added": ["Team"]}}}
        group.permissions.add(Permission.objects.get(codename="read_report"))
        assert "Can read the content" in str(last().details)
        user.set_password("another-password")
        user.is_superuser = True
        user.save()
        assert last().details == {"fields": {"password": "changed", "is_superuser": [False, True]}}
        user.groups.clear()
        assert last().details == {"fields": {"groups": {"cleared": []}}}
        user.delete()
        assert (last().action, last().object) == ("deleted", "grace")

    def test_every_kind_of_interface_policies_and_channels(self, interface: S3Interface, tmp_path: Path) -> None:
        folder = FolderInterface.objects.create(name="folder", folder=str(tmp_path))
        assert (last().action, last().object_type) == ("created", "folder_destination.folderinterface")
        policy = make_policy(folder)
        policy.dashboards.set([Dashboard.objects.create(slug="sales")])
        assert last().details == {"fields": {"dashboards": {"added": ["sales"]}}}
        policy.interface, policy.enabled = interface, False
        policy.save()
        assert last().details["fields"] == {"interface": ["folder", str(interface)], "enabled": [True, False]}
        channel = AlertChannel.objects.create(name="chat", kind="apprise", url="json://host/secret-path")
        setattr(channel, "url", "json://host/other-secret")  # noqa: B010
        channel.save()
        assert last().details == {"fields": {"url": "changed"}}
        assert "secret" not in json.dumps(list(AuditEntry.objects.values_list("details", flat=True))).replace(
            '"secret_access_key": "set"', ""
        )

    def test_state_written_by_the_program_is_not_recorded(self, interface: S3Interface) -> None:
        number = AuditEntry.objects.count()
        interface.failures, interface.detail = 3, "refused"
        interface.save()
        user = User.objects.create_user("grace")
        user.last_login = timezone.now()
        user.save(update_fields=["last_login"])
        assert AuditEntry.objects.count() == number + 1

    def test_many_objects_are_recorded_by_few_statements(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audit, "BATCH", 4)
        dashboards = [Dashboard(pk=number, slug=f"d-{number}") for number in range(1, 11)]
        with CaptureQueriesContext(connection) as queries:
            record(Action.CHANGED, *dashboards, details_of=lambda each: {"at": [each.pk, None, 'ä "\\']})
        assert len(queries) == 3
        found = list(AuditEntry.objects.order_by("id").values_list("object_type", "object_id", "object", "details"))
        wanted = [
            ("reports.dashboard", str(each.pk), each.slug, {"at": [each.pk, None, 'ä "\\']}) for each in dashboards
        ]
        assert found == wanted

    def test_rolled_back_changes_are_not_recorded(self) -> None:
        with transaction.atomic():
            Dashboard.objects.create(slug="sales")
            transaction.set_rollback(True)
        assert not AuditEntry.objects.exists()

    def test_other_admin_pages_are_recorded_by_the_admin_s_log(self, admin_client: Client) -> None:
        attempt = AccessAttempt.objects.create(username="grace", failures_since_start=9)
        form = {"action": "delete_selected", "_selected_action": [attempt.pk], "post": "yes"}
        admin_client.post(reverse("admin:axes_accessattempt_changelist"), form)
        assert not AccessAttempt.objects.exists()
        entry = last()
        assert (entry.action, entry.object_type) == ("deleted", "axes.accessattempt")
        assert (entry.actor, entry.object_id) == ("admin", str(attempt.pk))

    def test_each_of_several_ended_lockouts_is_recorded(self, admin_client: Client) -> None:
        names = ["grace", "alan"]
        keys = [AccessAttempt.objects.create(username=name, failures_since_start=9).pk for name in names]
        form = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
        admin_client.post(reverse("admin:axes_accessattempt_changelist"), form)
        assert not AccessAttempt.objects.exists()
        deleted = AuditEntry.objects.filter(action="deleted", object_type="axes.accessattempt", actor="admin")
        assert set(deleted.values_list("object_id", flat=True)) == {str(key) for key in keys}

    def test_a_test_of_unsaved_values_is_recorded_with_its_bucket(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        form = {
            "name": "tried", "provider": "other", "access_key_id": "KEY", "secret_access_key": "typed-and-secret",
            "region": "us-east-1", "bucket_name": "elsewhere", "endpoint_url": interface.endpoint_url,
            "addressing_style": "auto", "allow_http": "on", "ca_bundle": interface.ca_bundle,
        }  # fmt: skip
        admin_client.post(reverse("admin:delivery_s3_s3interface_test_new"), form).getvalue()
        entry = last()
        assert (entry.action, entry.object, entry.actor) == ("tested", "tried", "admin")
        assert entry.details["saved"] is False
        assert "elsewhere" in entry.details["place"]

    def test_a_cancelled_test_is_recorded(self, client: Client, interface: S3Interface) -> None:
        user = User.objects.create_user("operator", is_staff=True)
        user.groups.add(Group.objects.get(name="Operator"))
        client.force_login(user)
        answer: Any = client.post(reverse("admin:delivery_s3_s3interface_test", args=[interface.pk]))
        next(answer._iterator)
        answer._iterator.close()  # as a server does when the client disconnects
        assert AuditEntry.objects.filter(action=Action.TESTED, details__result="broken off").count() == 1

    def test_retry_and_cancel_are_recorded_once_per_delivery(
        self, admin_client: Client, interface: S3Interface
    ) -> None:
        make_policy(interface)
        make_report()
        make_report()
        Delivery.objects.update(state=State.FAILED, diagnosis="access_denied")
        chosen = {"_selected_action": list(Delivery.objects.values_list("pk", flat=True))}
        address = reverse("admin:deliveries_delivery_changelist")
        admin_client.post(address, chosen | {"action": "retry"})
        admin_client.post(address, chosen | {"action": "retry"})
        assert actions()[-2:] == ["retried", "retried"]
        admin_client.post(address, chosen | {"action": "cancel", "confirmed": "yes"})
        assert actions()[-3:] == ["retried", "cancelled", "cancelled"]


class TestReads:
    def test_a_view_is_recorded_once_an_hour_and_a_download_each_time(self, reader: Client) -> None:
        report = make_report(png(), filename="a.png")
        previews.make_preview(report)
        number = AuditEntry.objects.count()
        for _ in range(2):
            reader.get("/timeline/sales/")
            reader.get(f"/reports/{report.pk}/pages/1/")
            reader.get(f"/reports/{report.pk}/file/", headers={"Sec-Fetch-Dest": "image"}).getvalue()
            reader.get(f"/reports/{report.pk}/preview/").getvalue()
        assert actions()[number:] == ["viewed", "previewed"]
        for _ in range(2):
            reader.get(f"/reports/{report.pk}/file/").getvalue()
            reader.get(f"/reports/{report.pk}/file/", headers={"Range": "bytes=5-"}).getvalue()
        assert actions()[number + 2 :] == ["downloaded", "downloaded"]

    def test_a_range_alone_and_another_hour_are_recorded(self, reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        report = make_report(b"region,revenue\nnorth,1\n", filename="a.csv")
        number = AuditEntry.objects.count()
        reader.get(f"/reports/{report.pk}/file/", headers={"Range": "bytes=5-"}).getvalue()
        later = timezone.now() + timedelta(hours=2)
        monkeypatch.setattr(timezone, "now", lambda: later)
        reader.get(f"/reports/{report.pk}/file/", headers={"Range": "bytes=5-"}).getvalue()
        assert actions()[number:] == ["downloaded", "downloaded"]

    @pytest.mark.parametrize(
        "headers", [{"Range": "lines=5-"}, {"Range": "bytes=-99"}, {"Range": "bytes=00-"}, {"Sec-Fetch-Dest": "image"}]
    )
    def test_no_header_hides_a_download(self, reader: Client, headers: dict[str, str]) -> None:
        report = make_report(b"region,revenue\nnorth,1\n", filename="a.csv")
        number = AuditEntry.objects.count()
        for _ in range(2):
            answer = reader.get(f"/reports/{report.pk}/file/", headers=headers)
            assert answer.getvalue() == b"region,revenue\nnorth,1\n"
        assert actions()[number:] == ["downloaded", "downloaded"]

    def test_a_comparison_names_both_reports(self, reader: Client) -> None:
        reports = [
            make_report(f"region,revenue\nnorth,{day}\n".encode(), filename="a.csv", rendered_at=at)
            for day, at in enumerate((datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)))
        ]
        reader.get("/timeline/sales/compare/?from=20260301T000000Z&to=20260302T000000Z")
        viewed = AuditEntry.objects.filter(action=Action.VIEWED).values_list("object_id", flat=True)
        assert set(viewed) == {str(each.pk) for each in reports}

    def test_a_refused_read_is_not_recorded_as_a_read(self, client: Client) -> None:
        user = User.objects.create_user("lister")
        user.user_permissions.add(Permission.objects.get(codename="view_report"))
        client.force_login(user)
        report = make_report()
        number = AuditEntry.objects.count()
        for path in ("/timeline/sales/", f"/reports/{report.pk}/file/"):
            client.get(path)
        assert AuditEntry.objects.count() == number

    def test_commands_that_output_contents_are_recorded(self, tmp_path: Path) -> None:
        make_report()
        call_command("as_of", "sales", "2026-03-02", output=str(tmp_path / "a"), verbosity=0, stdout=io.StringIO())
        assert (last().action, last().actor_kind) == ("downloaded", "command")


@pytest.fixture
def unwritable() -> Iterator[Callable[[], None]]:
    """Return a function that makes the database refuse further entries."""

    def rename(name: str = "operations_auditentry", to: str = "operations_auditentry_away") -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name} RENAME TO {to}")

    yield rename
    if not connection.in_atomic_block:  # otherwise it is rolled back
        rename("operations_auditentry_away", "operations_auditentry")


class TestFailure:
    """An action that cannot be recorded does not happen."""

    @pytest.mark.parametrize("path", ["/reports/{}/file/", "/reports/{}/pages/1/", "/reports/{}/preview/",
                                      "/timeline/sales/", "/admin/reports/report/{}/content/"])  # fmt: skip
    def test_content_is_not_sent(self, admin_client: Client, unwritable: Callable[[], None], path: str) -> None:
        report = make_report(png(), filename="a.png")
        previews.make_preview(report)
        unwritable()
        admin_client.raise_request_exception = False
        answer = admin_client.get(path.format(report.pk))
        assert answer.status_code == 500
        assert not answer.streaming
        assert b"PNG" not in answer.content

    def test_the_api_says_so_in_words(self, client: Client, unwritable: Callable[[], None]) -> None:
        report, (_, token) = make_report(), tokens.create("reader", [Scope.READ])
        unwritable()
        answer = client.get(f"/api/v1/reports/{report.pk}/content", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 503
        assert "Send the request again later" in answer.json()["detail"]

    def test_nothing_is_ingested_or_changed(self, unwritable: Callable[[], None]) -> None:
        unwritable()
        for attempt in (make_report, lambda: Dashboard.objects.create(slug="sales")):
            with pytest.raises(DatabaseError), transaction.atomic():
                attempt()
        assert not Dashboard.objects.exists()
        assert not Report.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_nobody_signs_in(self, client: Client, unwritable: Callable[[], None]) -> None:
        User.objects.create_user("grace", password="right")
        unwritable()
        client.raise_request_exception = False
        assert client.post(reverse("login"), {"username": "grace", "password": "right"}).status_code == 500
        assert client.get("/timeline/").status_code == 302


class TestPage:
    def test_an_auditor_can_filter_search_and_browse_by_date(self, client: Client) -> None:
        user = User.objects.create_user("auditor", is_staff=True)
        user.groups.add(Group.objects.get(name="Auditor"))
        client.force_login(user)
        make_entries(3, at=datetime(2024, 2, 3, 12, tzinfo=UTC), object="an early report", actor="grace")
        make_entries(3, action=Action.CANCELLED)
        for query, number in (
            ("action__exact=cancelled", 3), ("q=early", 3), ("actor=auditor", 1), ("at__year=2024", 3), ("", 9),
            ("object_type__exact=reports.report&object_id__exact=1", 2), ("actor_kind__exact=user&q=192.0.2.1", 6),
        ):  # fmt: skip
            page = client.get(f"{reverse(LIST)}?{query}")
            assert page.status_code == 200, query
            assert page.context["cl"].result_count == number, query
        assert "at__year=2024" in page.content.decode() or "2024" in page.content.decode()

    def test_dates_are_found_by_periods(self) -> None:
        for month in (1, 2, 12):
            make_entries(2, at=datetime(2026, month, 28, 23, 30, tzinfo=UTC))
        make_entries(1, at=datetime(2024, 2, 29, tzinfo=UTC))
        years = AuditEntry.objects.all().datetimes("at", "year")
        assert [each.year for each in years] == [2024, 2025, 2026]
        months = AuditEntry.objects.filter(at__year=2026).datetimes("at", "month")
        assert [each.month for each in months] == list(range(1, 13))
        days = AuditEntry.objects.filter(at__year=2026, at__month=1).datetimes("at", "day")
        assert [each.day for each in days] == [28]

    def test_an_object_links_to_its_entries_for_users_who_may_see_them(
        self, admin_client: Client, client: Client
    ) -> None:
        dashboard = Dashboard.objects.create(slug="sales")
        page = reverse("admin:reports_dashboard_change", args=[dashboard.pk])
        link = f"{reverse(LIST)}?object_type__exact=reports.dashboard&amp;object_id__exact={dashboard.pk}"
        assert link in admin_client.get(page).content.decode()
        user = User.objects.create_user("operator", is_staff=True)
        user.groups.add(Group.objects.get(name="Operator"))
        client.force_login(user)
        assert link not in client.get(page).content.decode()

    def test_html_in_a_name_is_text(self, admin_client: Client) -> None:
        make_entries(1, object="<script>alert(1)</script>", details={"name": "<script>alert(2)</script>"})
        entry = last()
        for address in (reverse(LIST), reverse("admin:operations_auditentry_change", args=[entry.pk])):
            page = admin_client.get(address).content.decode()
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert(1)" in page


class TestExport:
    def test_nul_is_removed_from_details(self) -> None:
        record(Action.OTHER, name="a\0b", values=["c\0", {"d\0": 1}])
        assert "\0" not in last().object
        assert last().details == {"values": ["c", {"d": 1}]}

    @pytest.mark.parametrize("cell", [" =1+1", "\u00a0@SUM(A1)", "\n=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201"])
    def test_neither_spaces_nor_full_width_characters_hide_a_formula(self, cell: str) -> None:
        (_, line) = as_csv([AuditEntry(action="viewed", object=cell, via="x")])
        assert next(csv.reader(io.StringIO(line, newline="")))[9] == f"'{cell}"

    def test_csv_contains_no_formulas_and_json_lines_contain_everything(self, admin_client: Client) -> None:
        make_entries(1, object='=HYPERLINK("http://x")', actor="@grace", details={"file": "Umsätze.pdf"})
        answer = admin_client.get(reverse(EXPORT, args=["csv"]) + "?action__exact=viewed")
        assert answer["Content-Disposition"].endswith('.csv"')
        rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
        assert [(row["actor"], row["object"]) for row in rows] == [("'@grace", '\'=HYPERLINK("http://x")')]
        assert json.loads(rows[0]["details"]) == {"file": "Umsätze.pdf"}
        assert last().details == {"format": "csv", "filters": {"action__exact": "viewed"}}
        lines = admin_client.get(reverse(EXPORT, args=["jsonl"])).getvalue().decode().splitlines()
        found = [json.loads(line) for line in lines]
        assert [each["action"] for each in found] == actions()[::-1]
        assert found[-1]["at"].endswith("+00:00")

    def test_users_without_permission_cannot_export(self, client: Client) -> None:
        user = User.objects.create_user("operator", is_staff=True)
        user.groups.add(Group.objects.get(name="Operator"))
        client.force_login(user)
        assert client.get(reverse(EXPORT, args=["csv"])).status_code == 403
        assert last().action == Action.SIGNED_IN

    def test_an_export_that_cannot_be_recorded_does_not_happen(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **kwargs: Any) -> None:
            raise DatabaseError("disk full")

        monkeypatch.setattr(audit, "_write", refuse)  # the real table is needed to list what is exported
        admin_client.raise_request_exception = False
        assert admin_client.get(reverse(EXPORT, args=["csv"])).status_code == 500

    def test_unknown_formats_are_not_found(self, admin_client: Client) -> None:
        assert admin_client.get(reverse(EXPORT, args=["xml"])).status_code == 404


class TestRetention:
    def test_old_entries_are_removed_and_that_is_recorded(self, settings: Any) -> None:
        settings.AUDIT_RETENTION = 365
        make_entries(4, at=timezone.now() - timedelta(days=366))
        make_entries(2)
        tasks.remove_old_audit_entries.apply()
        assert actions() == ["viewed", "viewed", "removed"]
        assert last().details["entries"] == 4
        assert last().actor == "operations.remove_old_audit_entries"
        tasks.remove_old_audit_entries.apply()
        assert AuditEntry.objects.count() == 3

    def test_by_default_all_entries_are_kept(self) -> None:
        make_entries(1, at=timezone.now() - timedelta(days=36_500))
        tasks.remove_old_audit_entries.apply()
        assert actions() == ["viewed"]
