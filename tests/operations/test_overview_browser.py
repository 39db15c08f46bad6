"""The overview in a real browser: from an empty installation to the first report, and screenshots for the docs."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from anaphora.deliveries.models import Delivery, Heartbeat, Role, State
from anaphora.operations import first_steps
from anaphora.operations.models import Alert, AlertChannel, DailyTotal, Expectation, Installation
from delivery_s3.models import S3Interface
from tests.support.browsing import save_small, violations
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report
from tests.timeline.test_previews import png

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ticked(page: Page, number: int) -> None:
    page.goto("/admin/")
    expect(page.locator(".first-steps .done")).to_have_count(number)


def test_from_an_empty_installation_to_the_first_report_in_the_timeline(
    page: Page, bucket: Bucket, tmp_path: Path, start_celery: Callable[..., Path]
) -> None:
    """Uses only the buttons of the checklist."""
    server = bucket.server
    (tmp_path / "sales.png").write_bytes(png())
    start_celery("worker")
    ticked(page, 0)
    assert violations(page) == []
    page.click("text=Add interface")
    page.click("text=S3 interface")  # the tests have a second kind of destination to choose from
    for field, value in {
        "name": "Archive",
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        "region": server.region,
        "bucket_name": bucket.name,
        "endpoint_url": server.endpoint,
    }.items():
        if field == "name":
            page.select_option("#id_provider", "other")
        page.fill(f"#id_{field}", value)
    if server.ca_bundle:
        page.eval_on_selector("#id_ca_bundle", "(each, text) => { each.value = text; }", server.ca_bundle)
    page.click("input[name=_save]")
    ticked(page, 1)

    page.click("text=Test interface")
    page.click("input[name=_save_and_test]")
    expect(page.locator(".messagelist")).to_contain_text("The test passed")
    ticked(page, 2)

    page.click("text=Add policy")
    expect(page.locator("#id_interface option:checked")).to_have_text("Archive")
    page.fill("#id_name", "Everything")
    page.click("input[name=_save]")
    ticked(page, 3)

    page.click("text=Upload report")
    page.set_input_files("input[type=file]", tmp_path / "sales.png")
    page.get_by_label("Dashboard of sales.png").fill("sales")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".upload-list")).to_contain_text("ingested")
    ticked(page, 4)

    for _ in range(60):
        page.goto("/admin/")
        with suppress(AssertionError):
            expect(page.locator(".first-steps")).to_contain_text("The report is archived.", timeout=500)
            break
    page.click("text=Open timeline")
    page.wait_for_url("**/timeline/sales/")
    page.wait_for_function("document.querySelector('.sheet .picture')?.naturalWidth > 0")
    expect(page.locator(".receipt")).to_contain_text("archived")
    page.goto("/admin/")
    expect(page.locator(".first-steps")).to_have_count(0)
    expect(page.locator("#content")).to_contain_text("working")


@pytest.fixture
def busy(bucket: Bucket) -> S3Interface:
    """An installation in use: one interface works, one fails, a dashboard is late, beat is missing."""
    first_steps.finish()
    # No recount and no check in the background may change what is set up here.
    Installation.objects.update(counted_at=timezone.now(), alerts_checked_at=timezone.now())
    Heartbeat.objects.create(role=Role.WORKER, host="archive-1", seen_at=timezone.now())
    working = make_interface(bucket.server, bucket.name, name="Archive in Frankfurt")
    failing = make_interface(bucket.server, "reports-copy", name="Copy in Dublin")
    make_policy(working, name="everything")
    make_policy(failing, name="copies")
    report = make_report(png(), filename="sales.png", rendered_at=timezone.now() - timedelta(days=2))
    working.test()
    Delivery.objects.filter(interface=working).update(due_at=timezone.now() - timedelta(minutes=3))
    Alert.objects.create(
        key=f"interface:{failing.pk}", title="Bucket not found", began_at=timezone.now() - timedelta(hours=5)
    )
    failed = report.deliveries.get(interface=failing)
    failed.state = State.FAILED
    failed.diagnosis = "key_taken"
    failed.save()
    S3Interface.objects.filter(pk=failing.pk).update(
        diagnosis="bucket_not_found", failures=3, tested_at=timezone.now(), test_passed=True
    )
    today = timezone.now().astimezone(UTC).date()
    for age in range(30):
        numbers = 180 + (age * 37) % 90 - (60 if age % 7 in {2, 3} else 0)
        DailyTotal.objects.update_or_create(
            interface=working,
            day=today - timedelta(days=age),
            defaults={"reports": numbers, "bytes": numbers * 200_000, "failed": 12 if age in {0, 9} else 0},
        )
    Expectation.objects.create(dashboard=report.dashboard, every_hours=24, since=timezone.now() - timedelta(days=9))
    return working


@pytest.mark.heavy
def test_the_overview_is_accessible_and_pictured(page: Page, busy: S3Interface, pictured: Path) -> None:
    channel = AlertChannel.objects.create(name="Operators", kind="mail", recipients="ops@example.com")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 1280, "height": 1000})
        for path in ("/admin/settings/", f"/admin/operations/alertchannel/{channel.pk}/change/", "/admin/"):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert violations(page) == [], (path, scheme)
        assert Axe().run(page).response["violations"] == [], scheme
        save_small(page.screenshot(animations="disabled", full_page=True), pictured / f"overview-{scheme}.png")
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto("/admin/")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        assert violations(page) == [], scheme
        save_small(page.screenshot(animations="disabled"), pictured / f"overview-phone-{scheme}.png")


def test_problems_link_by_keyboard_to_the_pages_that_solve_them(page: Page, busy: S3Interface) -> None:
    page.goto("/admin/")
    button = page.get_by_role("link", name="Open interface")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#id_name")).to_have_value("Copy in Dublin")
