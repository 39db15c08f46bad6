"""The timeline in a real browser: a year of daily reports, with and without local copies.

With SCREENSHOTS, a folder, it writes screenshots for the documentation: `make screenshots`.
"""

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery, Heartbeat, Role, State
from anaphora.demo.dashboards import SAMPLES
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import previews
from delivery_s3.models import S3Interface
from tests.support.browsing import disguise, save_small
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FIRST = datetime(2025, 9, 1, 6, tzinfo=UTC)
DAYS = 365
MISSING = {datetime(2025, 12, day, 6, tzinfo=UTC) for day in (24, 25, 26)}
PICTURED = [datetime(2026, 3, 1, 6, tzinfo=UTC) + timedelta(days=day) for day in range(-5, 6)]
PICTURED.append(FIRST + timedelta(days=DAYS - 1))


def drawn(rendered_at: datetime, folder: Path) -> bytes:
    """Draw the demo's dashboard for the days that the pictures show, and a plain bar for other days."""
    if rendered_at in PICTURED:
        return SAMPLES[1].render(rendered_at, folder).read_bytes()
    image = Image.new("RGB", (320, 200), "white")
    day = rendered_at.timetuple().tm_yday
    ImageDraw.Draw(image).rectangle((20, 180 - day * 160 // 366, 60, 180), fill="teal")
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def year(bucket: Bucket, tmp_path: Path) -> S3Interface:
    """A year of daily reports in a bucket, with three days missing."""
    interface = make_interface(bucket.server, bucket.name, name="Archive in Frankfurt")
    make_policy(interface)
    Dashboard.objects.create(slug="web-shop-operations", title="Web shop operations")
    for number in range(DAYS):
        rendered_at = FIRST + timedelta(days=number)
        if rendered_at not in MISSING:
            name = f"Web shop operations {rendered_at:%Y-%m-%d}.png"
            make_report(
                drawn(rendered_at, tmp_path), filename=name, dashboard="web-shop-operations", rendered_at=rendered_at
            )
    while not engine.deliver_due(interface.pk).complete:  # a busy machine: what was postponed is due now
        Delivery.objects.filter(state=State.PENDING).update(due_at=timezone.now())
    for role in Role:
        Heartbeat.objects.create(role=role, host="archive-1", seen_at=timezone.now())
    for report in Report.objects.filter(rendered_at__in=PICTURED).select_related("dashboard"):
        previews.make_preview(report)
    return interface


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lose_local_copies() -> None:
    for report in Report.objects.select_related("dashboard"):
        report.local_path.unlink()
    Report.objects.update(file="")


def shown(page: Page) -> str:
    """Return the day that the page shows, and check that its image is loaded."""
    page.wait_for_function("document.querySelector('.sheet .picture')?.naturalWidth > 0")
    return page.locator(".rendered").inner_text()


def look_up(page: Page) -> None:
    page.goto("/timeline/")
    expect(page.locator(".zone")).to_contain_text("Europe/Berlin")  # the first page is drawn again for it
    page.wait_for_load_state()
    page.fill("input[name=dashboard]", "shop")
    expect(page.locator("#dashboards option")).to_have_attribute("value", "web-shop-operations")
    page.fill("input[name=dashboard]", "web-shop-operations")
    page.fill("input[name=date]", "2026-03-01")
    page.fill("input[name=time]", "14:00")
    page.keyboard.press("Enter")
    page.wait_for_url("**/timeline/web-shop-operations/20260301T130059Z/")


def walk(page: Page) -> None:
    """Find a report, go to its neighbours by arrow keys and to another day by the calendar, and compare two."""
    look_up(page)
    assert shown(page) == "Sunday, 1 March 2026, 07:00:00 CET"
    expect(page.locator(".lead")).to_contain_text("This was the latest at 1 Mar 2026, 14:00 CET")
    for key, day in (("ArrowLeft", 28), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        page.wait_for_url(f"**/20260{2 if day == 28 else 3}{day:02}T060000Z/")
        assert f"{day} {'February' if day == 28 else 'March'} 2026" in shown(page)

    assert page.locator("a.day").count() == 243, "1 January to 31 August"
    page.get_by_label("14 February 2026: 1 report").click()
    assert "14 February 2026" in shown(page)
    page.focus(".days")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/20260222T225959Z/")
    assert "22 February 2026" in shown(page)
    page.click("text=← 2025")
    expect(page.locator(".calendar h2")).to_have_text("2025")
    assert page.locator(".days .gap").count() == 3
    page.locator(".strip a").last.click()
    assert "27 February 2026" in shown(page)

    page.goto("/timeline/web-shop-operations/20260301T130000Z/")
    page.click("text=Compare with the previous report")
    expect(page.locator(".changes")).to_contain_text("changed")
    page.wait_for_function("[...document.querySelectorAll('.canvas img')].every((each) => each.naturalWidth > 0)")
    marks = page.locator("figure.to .areas i")
    assert marks.count() > 3
    date = page.locator("figure.to .canvas").bounding_box()
    assert date
    boxes = [box for box in (mark.bounding_box() for mark in marks.all()) if box]
    assert all(box["x"] >= date["x"] - 5 and box["y"] >= date["y"] - 5 for box in boxes)
    assert any(box["y"] < date["y"] + date["height"] * 0.1 for box in boxes), "the date, above on the right, changed"


@pytest.mark.heavy
def test_what_it_looked_like_on_the_first_of_march(browser: Browser, page: Page, year: S3Interface) -> None:
    context = browser.new_context(
        base_url=page.url.partition("/admin/")[0],
        timezone_id="Europe/Berlin",
        storage_state=page.context.storage_state(),
        permissions=["clipboard-read", "clipboard-write"],
    )
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    walk(opened)
    look_up(opened)
    expect(opened.locator(".receipt")).to_contain_text("The page displays the local copy")
    opened.click(".permanent")
    expect(opened.locator(".permanent")).to_have_text("Copied")
    link = opened.evaluate("navigator.clipboard.readText()")
    report = Report.objects.get(rendered_at=datetime(2026, 3, 1, 6, tzinfo=UTC))
    assert link.endswith(f"/timeline/web-shop-operations/20260301T060000Z/?report={report.pk}")

    lose_local_copies()
    walk(opened)
    opened.goto(link)
    assert "1 March 2026" in shown(opened)
    expect(opened.locator(".receipt")).to_contain_text("The local copy was removed")
    context.close()
    assert errors == []


@pytest.mark.heavy
def test_the_pages_are_accessible_and_pictured(page: Page, bucket: Bucket, year: S3Interface, pictured: Path) -> None:
    then = "/timeline/web-shop-operations/20260301T130000Z/"
    changed = "/timeline/web-shop-operations/compare/?from=20260228T130000Z&to=20260301T130000Z"
    for scheme in ("light", "dark"):
        Heartbeat.objects.update(seen_at=timezone.now())  # no notice that a process is missing
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 1280, "height": 1000})
        for name, path in (("dashboards", "/timeline/"), ("timeline", then), ("compare", changed)):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert Axe().run(page).response["violations"] == [], (path, scheme)
            disguise(page, bucket)
            save_small(page.screenshot(animations="disabled"), pictured / f"{name}-{scheme}.png")
        page.set_viewport_size({"width": 390, "height": 844})
        for path in ("/timeline/", changed, then):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, path
            assert Axe().run(page).response["violations"] == [], (path, scheme)
        disguise(page, bucket)
        save_small(page.screenshot(animations="disabled"), pictured / f"phone-{scheme}.png")


def test_the_slider_and_the_marks_by_keyboard(page: Page, tmp_path: Path) -> None:
    for number in (0, 1):
        rendered_at = FIRST + timedelta(days=50 * number)
        make_report(drawn(rendered_at, tmp_path), filename="a.png", rendered_at=rendered_at)
    page.goto("/timeline/sales/compare/?from=2025-09-01&to=2026-03-01")
    page.focus("#mode-beside")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#cut")).to_be_visible()
    page.focus("#cut")
    page.keyboard.press("Home")
    assert page.eval_on_selector(".compared", "each => each.style.getPropertyValue('--cut')") == "0%"
    expect(page.locator("figure.to .areas")).to_be_visible()
    page.focus("#marks")
    page.keyboard.press("Space")
    expect(page.locator("figure.to .areas")).to_be_hidden()
    assert Axe().run(page).response["violations"] == []


def test_without_permission_to_read_the_page_names_it(page: Page, bucket: Bucket, tmp_path: Path) -> None:
    interface = make_interface(bucket.server, bucket.name)
    make_policy(interface)
    make_report(drawn(FIRST, tmp_path), filename="a.png")
    assert engine.deliver_due(interface.pk).complete
    lose_local_copies()
    S3Interface.objects.update(bucket_name="there-is-none")
    page.goto("/timeline/sales/")
    expect(page.locator(".instead")).to_contain_text("s3:GetObject")
    expect(page.locator(".receipt")).to_contain_text(Delivery.objects.get().object_key)


def test_the_columns_of_a_csv_are_named_as_they_are(page: Page) -> None:
    make_report(b"region,Net sales\nnorth,1\n", filename="a.csv")
    page.goto("/timeline/sales/")
    assert page.locator(".table th").all_inner_texts() == ["region", "Net sales"]


def test_links_and_permissions_are_copied_over_plain_http(page: Page) -> None:
    """Browsers offer the clipboard API only over https."""
    make_report(b"region,Net sales\nnorth,1\n", filename="a.csv")
    page.add_init_script("""
        Object.defineProperty(navigator, "clipboard", {value: undefined});
        document.addEventListener("copy", () => { window.copied = document.activeElement.value; });
    """)
    page.goto("/timeline/sales/")
    page.click(".permanent")
    expect(page.locator(".permanent")).to_have_text("Copied")
    assert "/timeline/sales/20" in page.evaluate("window.copied")
    page.goto("/admin/delivery_s3/s3interface/add/")
    with page.expect_response("**/grants/"):  # opened, the panel is drawn again
        page.click("#grants summary")
    page.wait_for_timeout(200)
    page.locator(".copy").first.click()
    expect(page.locator(".copy").first).to_have_text("Copied")
    assert "s3:PutObject" in page.evaluate("window.copied")


def test_an_image_that_cannot_be_shown_has_an_explanation(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    make_report(b"\x89PNG\r\n\x1a\n" + b"no picture" * 100, filename="a.png")
    monkeypatch.setattr(
        "anaphora.timeline.view_context._render_problem", lambda report: ""
    )  # rendering is not complete yet
    page.goto("/timeline/sales/")
    expect(page.locator(".sheet .instead")).to_contain_text("The image cannot be displayed")
    expect(page.locator(".sheet .picture")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the original file").click()
    assert download.value.suggested_filename == "a.png"
