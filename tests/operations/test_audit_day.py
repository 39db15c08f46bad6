"""A scripted day in the web interface: the audit trail contains all actions, in order, without secrets, permanently."""

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from anaphora.api.models import ApiToken
from anaphora.deliveries import engine
from anaphora.deliveries.models import ArchivePolicy, Delivery, State
from anaphora.operations.audit_models import AppendOnlyError, AuditEntry
from anaphora.reports.models import Report
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.timeline.test_previews import png

pytestmark = pytest.mark.django_db

PASSWORD, WRONG, NEW_SECRET = "the right password", "a wrong password", "the-new-secret-key"
CLIENT = "192.0.2.7"


def form_of(page: Any, **changes: Any) -> dict[str, Any]:
    """Return the values that a browser would send from a form of the admin, with these changes."""
    form = page.context["adminform"].form
    values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    sent = {name: value for name, value in values.items() if value not in (None, "", False)}
    return sent | changes


class Day:
    """The actions of a superuser in a browser."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.client = bucket, Client(REMOTE_ADDR=CLIENT)
        self.secrets = [PASSWORD, WRONG, NEW_SECRET, bucket.server.secret_access_key]

    def post(self, name: str, data: dict[str, Any], *args: Any) -> Any:
        answer = self.client.post(reverse(f"admin:{name}", args=args), data)
        assert answer.status_code in {200, 302}, answer.content.decode()
        if answer.streaming:
            answer.getvalue()
        return answer

    def run(self) -> None:
        self.signs_in()
        self.configures()
        self.uploads_and_reads()
        self.retries_and_cancels()
        self.gives_out_a_token()
        assert self.client.get(reverse("admin:operations_auditentry_export", args=["csv"])).getvalue()
        self.post("logout", {})

    def signs_in(self) -> None:
        User.objects.create_superuser("ada", password=PASSWORD)
        self.post("login", {"username": "ada", "password": WRONG})
        self.post("login", {"username": "ada", "password": PASSWORD})

    def configures(self) -> None:
        server = self.bucket.server
        page = self.client.get(reverse("admin:delivery_s3_s3interface_add"))
        values = form_of(
            page, name="archive", provider="other", access_key_id=server.access_key_id, region=server.region,
            secret_access_key=server.secret_access_key, bucket_name=self.bucket.name, endpoint_url=server.endpoint,
            ca_bundle=server.ca_bundle, allow_http="on", enabled="on",
        )  # fmt: skip
        self.post("delivery_s3_s3interface_add", values)
        interface = S3Interface.objects.get()
        values = values | {"secret_access_key": ""}
        self.post("delivery_s3_s3interface_test", values, interface.pk)
        values = values | {"secret_access_key": NEW_SECRET, "key_prefix": "reports/"}
        self.post("delivery_s3_s3interface_change", values, interface.pk)
        S3Interface.objects.update(secret_access_key=server.secret_access_key)  # so that deliveries go on
        page = self.client.get(reverse("admin:deliveries_archivepolicy_add"))
        self.post("deliveries_archivepolicy_add", form_of(page, name="all", interface=interface.pk))
        assert ArchivePolicy.objects.count() == 1

    def uploads_and_reads(self) -> None:
        self.upload(png(), "first.png", "2026-03-01T12:00:00Z")
        report = Report.objects.get()
        engine.deliver_due(S3Interface.objects.get().pk)
        assert self.client.get("/timeline/sales/").status_code == 200
        self.client.get(f"/reports/{report.pk}/file/").getvalue()

    def upload(self, content: bytes, name: str, rendered_at: str) -> None:
        file = io.BytesIO(content)
        file.name = name
        form = {"dashboard": "sales", "rendered_at": rendered_at, "file": file}
        assert self.post("reports_report_upload", form).json()["created"]

    def retries_and_cancels(self) -> None:
        self.upload(b"%PDF-1.7 second", "second.pdf", "2026-03-02T12:00:00Z")
        Report.objects.latest("rendered_at").local_path.unlink()
        engine.deliver_due(S3Interface.objects.get().pk)
        failed = Delivery.objects.get(state=State.FAILED)
        chosen = {"_selected_action": [failed.pk]}
        self.post("deliveries_delivery_changelist", chosen | {"action": "retry"})
        self.post("deliveries_delivery_changelist", chosen | {"action": "cancel", "confirmed": "yes"})
        assert Delivery.objects.get(pk=failed.pk).state == State.CANCELLED

    def gives_out_a_token(self) -> None:
        answer = self.client.post(reverse("admin:api_apitoken_add"), {"name": "BI", "scopes": ["read"]}, follow=True)
        plain = answer.content.decode().partition('aria-label="Token">')[2].partition("<")[0]
        assert plain.startswith("anaphora_")
        self.secrets.append(plain)
        report = Report.objects.earliest("rendered_at")
        bearer = {"Authorization": f"Bearer {plain}"}
        program = Client(REMOTE_ADDR="192.0.2.99")
        assert program.get("/api/v1/reports", headers=bearer).status_code == 200
        program.get(f"/api/v1/reports/{report.pk}/content", headers=bearer).getvalue()
        token = ApiToken.objects.get()
        self.post("api_apitoken_changelist", {"action": "revoke", "_selected_action": [token.pk]})


EXPECTED = [
    "command: created auth.user ada",
    "nobody ada: sign_in_refused  ada",
    "user ada: signed_in auth.user ada",
    "user ada: created delivery_s3.s3interface archive",
    "user ada: tested delivery_s3.s3interface archive",
    "user ada: changed delivery_s3.s3interface archive",
    "user ada: created deliveries.archivepolicy all",
    "user ada: created reports.dashboard sales",
    "user ada: uploaded reports.report sales 2026-03-01 12:00:00 UTC",
    "user ada: viewed reports.report sales 2026-03-01 12:00:00 UTC",
    "user ada: downloaded reports.report sales 2026-03-01 12:00:00 UTC",
    "user ada: uploaded reports.report sales 2026-03-02 12:00:00 UTC",
    "user ada: retried deliveries.delivery sales 2026-03-02 12:00:00 UTC → archive",
    "user ada: cancelled deliveries.delivery sales 2026-03-02 12:00:00 UTC → archive",
    "user ada: created api.apitoken BI",
    "token BI: api_read  reports",
    "token BI: downloaded reports.report sales 2026-03-01 12:00:00 UTC",
    "user ada: revoked api.apitoken BI",
    "user ada: exported  audit trail",
    "user ada: signed_out auth.user ada",
]


def trail() -> list[str]:
    """Return the audit trail, the earliest entry first, without token prefixes and the system user."""
    lines = []
    for each in AuditEntry.objects.order_by("id"):
        actor = "" if each.actor_kind == "command" else f" {each.actor.partition(' (')[0]}"
        name = each.object.partition(" (")[0]
        lines.append(f"{each.actor_kind}{actor}: {each.action} {each.object_type} {name}")
    return lines


@pytest.fixture
def day(bucket: Bucket) -> Day:
    day = Day(bucket)
    day.run()
    return day


def test_a_whole_day_is_recorded_in_order_without_secrets(day: Day) -> None:
    assert trail() == EXPECTED
    entries = list(AuditEntry.objects.order_by("id"))
    assert [each.at for each in entries] == sorted(each.at for each in entries)
    written = json.dumps([[each.object, each.actor, each.details] for each in entries])
    for secret in day.secrets:
        assert secret not in written
    assert {each.address for each in entries if each.actor_kind in {"user", "nobody"}} == {CLIENT}
    assert {each.address for each in entries if each.actor_kind == "token"} == {"192.0.2.99"}
    changed = AuditEntry.objects.get(action="changed")
    assert changed.details == {"fields": {"secret_access_key": "changed", "key_prefix": ["", "reports/"]}}
    created = AuditEntry.objects.get(action="created", object_type="delivery_s3.s3interface")
    assert created.details["fields"]["secret_access_key"] == "set"
    assert created.details["fields"]["bucket_name"] == day.bucket.name
    tested = AuditEntry.objects.get(action="tested")
    assert (tested.details["result"], tested.details["saved"]) == ("passed", True)


def test_a_superuser_cannot_alter_it_in_the_admin(day: Day, admin_client: Client) -> None:
    before = list(AuditEntry.objects.order_by("id").values())
    entry = AuditEntry.objects.earliest("id")
    base = "admin:operations_auditentry"
    assert admin_client.get(reverse(f"{base}_change", args=[entry.pk])).status_code == 200
    assert admin_client.post(reverse(f"{base}_change", args=[entry.pk]), {"actor": "x"}).status_code == 403
    assert admin_client.post(reverse(f"{base}_delete", args=[entry.pk]), {"post": "yes"}).status_code == 403
    assert admin_client.post(reverse(f"{base}_add"), {"actor": "x"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
    admin_client.post(reverse(f"{base}_changelist"), action)
    admin_client.post(reverse("admin:auth_user_delete", args=[User.objects.get(username="ada").pk]), {"post": "yes"})
    assert not User.objects.filter(username="ada").exists()
    admin_client.post(reverse("admin:api_apitoken_delete", args=[ApiToken.objects.get().pk]), {"post": "yes"})
    assert not ApiToken.objects.exists()
    after = list(AuditEntry.objects.order_by("id").values())
    assert after[: len(before)] == before
    new = [(each["action"], each["object_type"]) for each in after[len(before) :]]
    assert new[-2:] == [("deleted", "auth.user"), ("deleted", "api.apitoken")]


def test_code_cannot_alter_it_by_accident(day: Day) -> None:
    entry = AuditEntry.objects.earliest("id")
    for attempt in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(actor="x"),
    ):
        with pytest.raises(AppendOnlyError):
            attempt()
