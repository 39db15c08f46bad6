"""The archive outlives its database: with an index rebuilt from the bucket, all pages and answers are as before."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import previews
from delivery_s3.models import S3Interface
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.support.servers import S3Server
from tests.timeline.test_previews import png, two_pages
from tests.timeline.test_views import raw

pytestmark = pytest.mark.django_db(transaction=True)

# Primary keys, which only the old database had, and CSRF tokens.
NUMBERS = re.compile(
    rb'(?<=/delivery/)\d+|(?<=/dashboard/)\d+|dashboard__id__exact=\d+|value="\w{64}"|'
    rb'value="\d+" class="action-select"|form-\d+-id" value="\d+"'
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def bucket(s3: S3Server, moto: S3Server, make_bucket: Callable[..., Bucket]) -> Bucket:
    """A bucket on a server that keeps metadata. With rclone, buckets are folders, which have none."""
    return make_bucket(moto if s3.kind == "rclone" else s3)


def set_up(bucket: Bucket) -> tuple[S3Interface, Client, dict[str, str]]:
    """Create everything that is configured, and so must be configured again: interface, policy, user, token."""
    interface = make_interface(bucket.server, bucket.name, name="archive", key_prefix="reports/")
    make_policy(interface)
    client = Client()
    client.force_login(User.objects.create_superuser("auditor"))
    client.cookies["zone"] = "Europe/Berlin"
    return interface, client, {"Authorization": f"Bearer {tokens.create('reader', [Scope.READ])[1]}"}


def take_in() -> None:
    Dashboard.objects.create(slug="sales", title="Umsätze")
    for day in range(4):
        rendered_at = NOON + timedelta(days=day)
        make_report(png((day * 9, 0, day * 9 + 50, 50)), filename=f"Umsätze {day}.png", rendered_at=rendered_at)
        make_report(two_pages() + b"%d" % day, dashboard="stock", rendered_at=rendered_at)
        make_report(b"a,b\n%d,2\n" % day, filename="a.csv", dashboard="stock", rendered_at=rendered_at)


def paths() -> list[str]:
    found = [
        "/timeline/",
        "/timeline/sales/",
        "/timeline/stock/",
        "/timeline/stock/?type=text/csv",
        "/timeline/sales/?year=2025",
    ]
    found += ["/timeline/dashboards.json?q=s", "/timeline/sales/compare/?from=20260301T225959Z&to=20260303T225959Z"]
    found += [
        "/timeline/stock/compare/?from=20260301T225959Z&to=20260303T225959Z&type=text/csv",
        "/admin/reports/report/",
    ]
    found += [
        "/api/v1/reports",
        "/api/v1/dashboards",
        "/api/v1/dashboards/stock/as-of/2026-03-02",
        "/admin/reports/dashboard/",
    ]
    for report in Report.objects.order_by("pk").select_related("dashboard"):
        stamp = f"{report.rendered_at + timedelta(hours=1):%Y%m%dT%H%M%SZ}"
        found += [
            f"/timeline/{report.dashboard.slug}/{stamp}/?type={report.content_type}",
            f"/reports/{report.pk}/file/",
        ]
        found += [
            f"/reports/{report.pk}/{what}/" for what in ("preview", "pages/1") if report.content_type != "text/csv"
        ]
        found += [f"/api/v1/reports/{report.pk}", f"/api/v1/reports/{report.pk}/content"]
        found += [f"/admin/reports/report/{report.pk}/change/"]
    return found


def answers(client: Client, headers: dict[str, str], wanted: list[str]) -> dict[str, Any]:
    found = {}
    for path in wanted:
        answer = client.get(path, headers=headers if path.startswith("/api/") else {})
        content = raw(answer)
        assert answer.status_code == 200, (path, content[:300])
        if answer["Content-Type"].startswith("text/html"):
            content = NUMBERS.sub(b"", content)
        found[path] = (answer.get("ETag"), answer["Content-Type"], content)
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("here", [True, False])
def test_every_page_and_answer_is_the_same(bucket: Bucket, *, here: bool) -> None:
    interface, client, headers = set_up(bucket)
    take_in()
    assert engine.deliver_due(interface.pk).complete
    for report in Report.objects.select_related("dashboard"):
        previews.make_preview(report)
        if not here:
            report.local_path.unlink()
            Report.objects.filter(pk=report.pk).update(file="")
    wanted = paths()
    before = answers(client, headers, wanted)

    call_command("flush", interactive=False)
    assert not Report.objects.exists()
    assert not Delivery.objects.exists()
    _, client, headers = set_up(bucket)
    call_command("rebuild_index", "archive")

    after = answers(client, headers, wanted)
    for path in wanted:
        assert after[path] == before[path], path
