"""The configuration page in a real browser, against real servers."""

from contextlib import suppress
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from anaphora.deliveries import engine
from anaphora.reports.models import Report
from delivery_s3.connection_test.steps import STEPS
from delivery_s3.models import S3Interface
from tests.support import servers
from tests.support.browsing import violations
from tests.support.buckets import Bucket
from tests.support.factories import make_interface, make_policy, make_report

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def fill_in(page: Page, **values: str) -> None:
    for name, value in values.items():
        field = page.locator(f"#id_{name}")
        if name == "provider":
            field.select_option(value)
        else:
            field.fill(value)


def test_from_an_empty_form_to_a_tested_interface(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    fill_in(
        page,
        name="archive",
        provider="other",
        access_key_id=bucket.server.access_key_id,
        secret_access_key="wrong-secret-typed-in",
        region=bucket.server.region,
        bucket_name=bucket.name,
        endpoint_url=bucket.server.endpoint,
    )
    page.click("#run-test")
    expect(page.locator(".verdict h3")).to_contain_text("Invalid credentials")
    expect(page.locator(".form-row.field-secret_access_key")).to_have_class(__import__("re").compile("field-at-fault"))
    assert page.input_value("#id_secret_access_key") == "wrong-secret-typed-in", "nothing typed is lost"

    page.fill("#id_secret_access_key", bucket.server.secret_access_key)
    page.click("#run-test")
    expect(page.locator(".verdict h3")).to_have_text("The test passed")
    assert page.locator("#test-steps tr").count() == len(STEPS)
    assert not S3Interface.objects.exists(), "a test saves nothing"

    page.click("[name=_continue]")
    page.wait_for_url("**/change/")
    assert S3Interface.objects.get().secret_access_key.reveal() == bucket.server.secret_access_key
    assert bucket.server.secret_access_key not in page.content()
    assert page.input_value("#id_secret_access_key") == ""

    page.click("#run-test")
    expect(page.locator(".verdict h3")).to_have_text("The test passed")
    assert bucket.server.secret_access_key not in page.content()
    page.click("text=Remove the test file")
    expect(page.locator(".act")).to_contain_text("Removed")


def test_a_self_signed_certificate_is_trusted_by_its_button(page: Page, tmp_path: Path) -> None:
    certificate, key = servers.make_certificate(tmp_path)
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    with servers.rclone(tmp_path / "store", certificate=certificate, key=key) as server:
        interface = make_interface(server, "bucket")
        page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
        page.click("#run-test")
        expect(page.locator(".verdict h3")).to_have_text("SSL certificate error: self-signed")
        page.click("text=Trust this certificate at this endpoint")
        assert page.input_value("#id_ca_bundle").strip() == certificate.read_text().strip()
        page.click("#run-test")
        expect(page.locator(".verdict h3")).to_have_text("The test passed")
        page.click("[name=_save]")
        page.wait_for_url("**/s3interface/")
    assert S3Interface.objects.get().ca_bundle.strip() == certificate.read_text().strip()


def test_the_test_runs_by_keyboard_and_can_be_cancelled(page: Page, bucket: Bucket) -> None:
    with servers.silent() as port:
        interface = make_interface(bucket.server, bucket.name, endpoint_url=f"http://127.0.0.1:{port}")
        page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
        page.focus("#run-test")
        page.keyboard.press("Enter")
        expect(page.locator("#test-status")).to_have_text("TLS: skipped")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "cancel-test"
        page.keyboard.press("Enter")
        expect(page.locator("#test-status")).to_have_text("Cancelled.")
        expect(page.locator("#run-test")).to_be_enabled()


def test_presets_fill_in_values_and_keep_entered_ones(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    fill_in(page, provider="spaces", region="fra1")
    page.locator("#id_region").blur()
    expect(page.locator("#id_endpoint_url")).to_have_value("https://fra1.digitaloceanspaces.com")
    fill_in(page, provider="b2")
    expect(page.locator("#id_endpoint_url")).to_have_value("")
    fill_in(page, region="us-west-004")
    page.locator("#id_region").blur()
    expect(page.locator("#id_endpoint_url")).to_have_value("https://s3.us-west-004.backblazeb2.com")
    fill_in(page, endpoint_url="https://mine.example.com")
    fill_in(page, provider="minio")
    expect(page.locator("#id_endpoint_url")).to_have_value("https://mine.example.com")
    assert page.locator("#id_endpoint_url").get_attribute("placeholder") == "https://minio.example.com:9000"
    expect(page.locator(".form-row.field-allow_http")).to_be_hidden()
    fill_in(page, endpoint_url="http://mine.example.com")
    expect(page.locator(".form-row.field-allow_http")).to_be_visible()


def test_an_endpoint_that_has_receipts_is_changed_with_a_confirmation(
    page: Page, interface: S3Interface, bucket: Bucket
) -> None:
    make_policy(interface)
    make_report()
    engine.deliver_due(interface.pk)
    with servers.in_front_of(bucket.server, lambda method, path: servers.Fault.NONE) as another:
        page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
        expect(page.locator("#id_bucket_name")).to_be_disabled()
        confirmation = page.locator(".form-row.field-same_store")
        expect(confirmation).to_be_hidden()
        fill_in(page, endpoint_url=another)
        expect(confirmation).to_be_visible()
        page.click("#run-test")
        expect(page.locator(".verdict h3")).to_have_text("The test passed")
        page.click("[name=_continue]")
        expect(page.locator(".field-endpoint_url .errorlist")).to_contain_text("Confirm below")
        page.check("#id_same_store")
        page.click("[name=_continue]")
        expect(page.locator(".messagelist .success")).to_be_visible()
        assert S3Interface.objects.get().endpoint_url == another


def test_an_error_is_marked_and_corrected_by_its_button(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    fill_in(
        page,
        name="archive",
        provider="spaces",
        access_key_id="KEY",
        secret_access_key="SECRET",
        bucket_name="finance",
        endpoint_url="https://finance.fra1.digitaloceanspaces.com",
    )
    page.click("#run-test")
    expect(page.locator(".verdict h3")).to_have_text("Correct the errors in the form, then test again")
    page.click("text=Use https://fra1.digitaloceanspaces.com")
    expect(page.locator("#id_endpoint_url")).to_have_value("https://fra1.digitaloceanspaces.com")


def test_the_permissions_follow_the_entered_values(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    page.click("#grants summary")
    fill_in(page, bucket_name="finance")
    expect(page.locator(".grant pre").first).to_contain_text("arn:aws:s3:::finance/*")


@pytest.mark.heavy
@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_the_page_has_no_serious_accessibility_violation(page: Page, bucket: Bucket) -> None:
    interface = make_interface(bucket.server, bucket.name)
    addresses = [
        "/admin/delivery_s3/s3interface/add/",
        "/admin/delivery_s3/s3interface/",
        f"/admin/delivery_s3/s3interface/{interface.pk}/change/",
    ]
    for address in addresses:
        page.goto(address)
        if address.endswith("change/"):
            for secret in ("wrong", bucket.server.secret_access_key):
                page.fill("#id_secret_access_key", secret)
                page.click("#run-test")
                expect(page.locator("#run-test")).to_be_enabled()
                expect(page.locator(".verdict h3")).to_be_visible()
                assert violations(page) == []
        with suppress(Exception):
            page.click("#grants summary", timeout=500)
        assert violations(page) == [], address


def test_files_chosen_before_the_page_is_ready_count(page: Page, tmp_path: Path) -> None:
    (tmp_path / "sales 2026-03-02.pdf").write_bytes(b"%PDF-1.7 a")
    held: list[Route] = []
    page.route("**/upload.js", lambda route: held.append(route))
    page.goto("/admin/reports/report/upload/", wait_until="commit")
    page.set_input_files("#files", tmp_path / "sales 2026-03-02.pdf")
    page.wait_for_timeout(300)
    for route in held:
        route.continue_()
    expect(page.locator("#upload-summary")).to_contain_text("1 file")


def test_dashboard_and_time_are_suggested_from_file_names(page: Page, tmp_path: Path) -> None:
    make_report(dashboard="weekly-sales")
    chosen = {"weekly-sales 2026-03-02T0600Z.pdf": b"%PDF-1.7 a", "empty.pdf": b"", "other.csv": b"a,b\n1,2\n"}
    for name, content in chosen.items():
        (tmp_path / name).write_bytes(content)
    page.goto("/admin/reports/report/")
    page.get_by_role("link", name="Upload reports").click()
    page.set_input_files("#files", [tmp_path / name for name in chosen])
    expect(page.locator("#upload-summary")).to_contain_text("3 files")
    page.get_by_label("Dashboard of other.csv").fill("")
    expect(page.locator("tr", has_text="other.csv")).to_contain_text("dashboard missing")
    page.get_by_label("Dashboard of other.csv").fill("stock")
    expect(page.locator("tr", has_text="other.csv")).to_contain_text("ready")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-summary")).to_contain_text("2 of 3 ingested")
    expect(page.locator(".upload-problem")).to_contain_text("empty")
    page.get_by_role("button", name="Remove empty.pdf from the list").click()
    expect(page.locator("#upload-summary")).to_contain_text("2 of 2 ingested")
    assert Axe().run(page).response["violations"] == []
    report = Report.objects.get(filename="weekly-sales 2026-03-02T0600Z.pdf")
    assert (report.dashboard.slug, report.rendered_at.isoformat()) == ("weekly-sales", "2026-03-02T06:00:00+00:00")
    assert Report.objects.get(filename="other.csv").dashboard.slug == "stock"


def test_the_verdict_is_visible_on_a_laptop_screen(page: Page, bucket: Bucket) -> None:
    page.set_viewport_size({"width": 1366, "height": 700})
    interface = make_interface(bucket.server, bucket.name, ca_bundle="", server_side_encryption="aws:kms")
    page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
    for changes, title in (
        ({"bucket_name": "no-such-bucket"}, "Bucket not found"),
        ({"key_prefix": "/"}, "Correct the errors"),
    ):
        for name, value in changes.items():
            page.evaluate("([name, value]) => document.getElementById(`id_${name}`).value = value", [name, value])
        page.click("#run-test")
        expect(page.locator(".verdict h3")).to_contain_text(title)
        expect(page.locator(".verdict h3")).to_be_in_viewport()


def test_an_ended_session_is_reported(page: Page, bucket: Bucket) -> None:
    interface = make_interface(bucket.server, bucket.name)
    page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
    page.fill("#id_name", "typed before")
    page.context.clear_cookies()
    page.click("#run-test")
    expect(page.locator("#test-status")).to_contain_text("You are no longer signed in")
    assert page.input_value("#id_name") == "typed before"


def test_without_a_session_no_login_page_appears_inside_the_page(page: Page, bucket: Bucket) -> None:
    interface = make_interface(bucket.server, bucket.name)
    page.goto(f"/admin/delivery_s3/s3interface/{interface.pk}/change/")
    page.click("#run-test")
    expect(page.locator(".verdict h3")).to_have_text("The test passed")
    page.context.clear_cookies()
    page.click("#grants summary")
    expect(page.locator("#grants .grants")).to_contain_text("You are no longer signed in")
    page.click("button[data-act=remove]")
    expect(page.locator("#test-status")).to_contain_text("You are no longer signed in")
    expect(page.locator("button[data-act=remove]")).to_be_enabled()
    assert page.locator("input[name=password]").count() == 0
