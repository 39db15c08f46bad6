"""Screenshots for the documentation: `make screenshots` writes them to docs/images.

Check each picture that changes.
"""

import io
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule
from playwright.sync_api import Page

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery, Heartbeat, Role, State
from anaphora.demo.dashboards import SAMPLES
from anaphora.operations import first_steps
from anaphora.operations.models import AlertChannel, Expectation, Installation
from anaphora.reports import inbox
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import previews
from delivery_s3.models import S3Interface
from tests.reports.test_inbox import put
from tests.support.browsing import disguise, save_small
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = [pytest.mark.browser, pytest.mark.heavy, pytest.mark.django_db(transaction=True)]

WIDE, PHONE = (1280, 800), (390, 844)
FIRST = datetime(2026, 3, 1, 6, tzinfo=UTC)
DAYS = 5


def table(day: int) -> list[list[Any]]:
    head = ["Region", "Orders", "Revenue (EUR)", "Returned", "Day"]
    regions = ["North", "South", "East", "West", "Export"]
    return [head] + [
        [
            name,
            410 + 37 * number + 11 * day,
            25_400.5 + 1_903 * number,
            0.021 + number / 500,
            FIRST + timedelta(days=day),
        ]
        for number, name in enumerate(regions)
    ]


def xlsx(day: int) -> bytes:
    book, target = openpyxl.Workbook(), io.BytesIO()
    sheet: Any = book.active
    sheet.title = "Regions"
    for row in table(day):
        sheet.append([each.replace(tzinfo=None) if isinstance(each, datetime) else each for each in row])
    for row in sheet.iter_rows(min_row=2, min_col=4, max_col=4):
        row[0].number_format = "0.0%"
    book.create_sheet("Notes").append(["Figures are without VAT."])
    book.save(target)
    return target.getvalue()


def csv(day: int) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in table(day)).encode()


@pytest.fixture
def archive(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Interface:
    """Create dashboards of several formats, a working and a failing interface, and rows for all other pages."""
    first_steps.finish()
    Installation.objects.update(counted_at=timezone.now(), alerts_checked_at=timezone.now())
    for role in Role:
        Heartbeat.objects.get_or_create(role=role, host="archive-1", defaults={"seen_at": timezone.now()})
    titles = {"sales-overview": "Sales overview", "web-shop": "Web shop operations", "regions": "Regions"}
    dashboards = {slug: Dashboard.objects.create(slug=slug, title=title) for slug, title in titles.items()}
    frankfurt = make_interface(bucket.server, bucket.name, name="Archive in Frankfurt")
    dublin = make_interface(bucket.server, "reports-copy", name="Copy in Dublin")
    monday = CrontabSchedule.objects.create(minute="0", hour="6", day_of_week="1", timezone="Europe/Berlin")
    make_policy(frankfurt, name="Everything to Frankfurt")
    make_policy(dublin, name="Sales to Dublin, weekly", schedule=monday).dashboards.add(dashboards["sales-overview"])
    for day in range(DAYS):
        then = FIRST + timedelta(days=day)
        for sample, slug in zip(SAMPLES, ("sales-overview", "web-shop"), strict=True):
            file = sample.render(then, tmp_path)
            make_report(file.read_bytes(), filename=file.name, dashboard=slug, rendered_at=then)
        make_report(csv(day), filename=f"Regions {then:%Y-%m-%d}.csv", dashboard="regions", rendered_at=then)
        later = then + timedelta(minutes=5)
        make_report(xlsx(day), filename=f"Regions {then:%Y-%m-%d}.xlsx", dashboard="regions", rendered_at=later)
    frankfurt.test()
    while not engine.deliver_due(frankfurt.pk).complete:  # a busy machine: what was postponed is due now
        Delivery.objects.filter(state=State.PENDING).update(due_at=timezone.now())
    for report in Report.objects.select_related("dashboard"):
        if report.previewable:
            previews.make_preview(report)
    latest = Report.objects.filter(dashboard__slug="sales-overview").latest("rendered_at")
    Delivery.objects.create(report=latest, interface=dublin, state=State.FAILED, diagnosis="bucket_not_found")
    S3Interface.objects.filter(pk=dublin.pk).update(
        diagnosis="bucket_not_found", failures=3, detail="NoSuchBucket: The specified bucket does not exist"
    )
    tokens.create("Grafana renderer", [Scope.INGEST])
    tokens.create("Data warehouse", [Scope.READ], timezone.now() + timedelta(days=90))
    AlertChannel.objects.create(name="Operators", kind="mail", recipients="ops@example.com")
    Expectation.objects.create(dashboard=dashboards["sales-overview"], schedule=monday)
    monkeypatch.setattr(settings, "INBOX_DIR", tmp_path / "inbox")
    monkeypatch.setattr(settings, "INBOX_SETTLE_SECONDS", 0)
    assert settings.INBOX_DIR is not None
    for name in ("sales-overview/setup.pdf", "sales-overview/2026-03-06.pdf"):
        put(settings.INBOX_DIR, name, b"\x7fELF\x00\x01" if "setup" in name else b"MZ\x90\x00 program")
    assert inbox.scan().rejected == 2
    return frankfurt


def pages(archive: S3Interface) -> dict[str, str]:
    """Return the URLs of the pages by the names of their pictures."""
    delivered = Delivery.objects.filter(state=State.DELIVERED).latest("pk")
    failed = Delivery.objects.get(state=State.FAILED)
    report = Report.objects.filter(dashboard__slug="web-shop").latest("rendered_at")
    policy = archive.policies.get()
    weekly = Delivery.objects.get(pk=failed.pk).interface.policies.get()

    def of(name: str, *arguments: Any) -> str:
        return reverse(f"admin:{name}", args=arguments)

    return {
        "timeline-pdf": "/timeline/sales-overview/",
        "timeline-image": "/timeline/web-shop/",
        "timeline-csv": "/timeline/regions/?type=text/csv",
        "timeline-xlsx": "/timeline/regions/",
        "compare-csv": "/timeline/regions/compare/?from=20260303T060000Z&to=20260304T060000Z&type=text/csv",
        "reports": of("reports_report_changelist"),
        "report": of("reports_report_change", report.pk),
        "upload": of("reports_report_upload"),
        "refused": of("reports_report_refused"),
        "dashboards-list": of("reports_dashboard_changelist"),
        "dashboard": of("reports_dashboard_change", failed.report.dashboard_id),
        "deliveries": of("deliveries_delivery_changelist"),
        "delivery": of("deliveries_delivery_change", delivered.pk),
        "delivery-failed": of("deliveries_delivery_change", failed.pk),
        "delivery-cancel": of("deliveries_delivery_cancel", failed.pk),
        "interfaces": of("deliveries_interface_changelist"),
        "interface": of("delivery_s3_s3interface_change", archive.pk),
        "interface-failing": of("delivery_s3_s3interface_change", failed.interface_id),
        "interface-new": of("delivery_s3_s3interface_add"),
        "policies": of("deliveries_archivepolicy_changelist"),
        "policy": of("deliveries_archivepolicy_change", weekly.pk),
        "backfill": of("deliveries_archivepolicy_backfill", policy.pk),
        "tokens": of("api_apitoken_changelist"),
        "token-new": of("api_apitoken_add"),
        "alert-channel": of("operations_alertchannel_change", AlertChannel.objects.get().pk),
        "alerts": of("operations_alert_changelist"),
        "audit-trail": of("operations_auditentry_changelist"),
        "settings": of("settings"),
        "api": "/api/v1/docs",
        "users": of("auth_user_changelist"),
        "groups": of("auth_group_changelist"),
        "access-attempts": of("axes_accessattempt_changelist"),
        "not-found": "/there-is-none/",
    }


def picture(page: Page, folder: Path, name: str, size: tuple[int, int], scheme: str) -> None:
    ending = "-phone" if size == PHONE else ""
    most = 1400 if size == WIDE else 1600
    height = min(page.evaluate("document.documentElement.scrollHeight"), most)
    page.set_viewport_size({"width": size[0], "height": max(height, size[1] if size == PHONE else 480)})
    save_small(page.screenshot(animations="disabled"), folder / f"{name}{ending}-{scheme}.png")


ON_PHONES = {"timeline-image", "timeline-xlsx", "delivery", "policy", "interface-new", "reports", "token-created"}
"""The pages that are also pictured on a phone."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def each_look() -> list[tuple[tuple[int, int], str]]:
    """Return sizes and color schemes: all for the documentation, otherwise two in which each occurs once."""
    if "SCREENSHOTS" not in os.environ:
        return [(WIDE, "light"), (PHONE, "dark")]
    return [(size, scheme) for size in (WIDE, PHONE) for scheme in ("light", "dark")]


def create_token(page: Page) -> None:
    page.goto(reverse("admin:api_apitoken_add"))
    page.fill("#id_name", f"Reporting {timezone.now():%H%M%S%f}")
    for box in page.locator("[name=scopes]").all():
        box.check()
    page.click("input[name=_save]")


def verify(page: Page, path: str) -> None:
    page.goto(path)
    page.click("text=Verify now")


def test_every_page_is_pictured(page: Page, bucket: Bucket, archive: S3Interface, folder: Path) -> None:
    everywhere: dict[str, Callable[[], Any]] = {name: partial(page.goto, path) for name, path in pages(archive).items()}
    everywhere["token-created"] = partial(create_token, page)
    everywhere["delivery-verified"] = partial(verify, page, pages(archive)["delivery"])
    chosen = os.environ.get("PICTURES", "").split()
    for size, scheme in each_look():
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for name, go in everywhere.items():
            if (size == PHONE and name not in ON_PHONES) or (chosen and name not in chosen):
                continue
            Heartbeat.objects.update(seen_at=timezone.now())
            page.set_viewport_size({"width": size[0], "height": size[1]})
            go()
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0], (name, size)
            disguise(page, bucket)
            picture(page, folder, name, size, scheme)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_500_000


def test_pages_for_users_with_few_permissions_are_pictured(page: Page, archive: S3Interface, tmp_path: Path) -> None:
    """These pictures are not for the documentation. With PICTURES_FEW, a folder, they are kept for review."""
    folder = Path(os.environ.get("PICTURES_FEW") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    user = User.objects.create_user("viewer", password="password of the test", is_staff=True)
    names = ["view_report", "view_delivery", "view_archivepolicy", "view_s3interface", "view_dashboard"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    page.context.clear_cookies()
    page.goto("/admin/login/")
    page.fill("#id_username", "viewer")
    page.fill("#id_password", "password of the test")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/")
    Heartbeat.objects.update(seen_at=timezone.now())
    for name, path in pages(archive).items():
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        page.goto(path)
        page.wait_for_load_state("networkidle")
        picture(page, folder, name, WIDE, "light")
