"""The configuration page in a real browser, against real servers."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from delivery_s3.models import S3Interface
from tests import servers
from tests.conftest import CHROMIUM, Bucket
from tests.factories import make_interface

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PATIENCE = 15_000  # milliseconds
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright keeps an event loop in this thread, in which Django would refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-sync"])
        yield chromium
        chromium.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(params=["light"])
def page(request: Any, browser: Browser, live_server: LiveServer, transactional_db: None) -> Iterator[Page]:
    """A page whose user is logged in as an administrator; an error in its scripts fails the test."""
    User.objects.create_superuser("admin", password="password of the test")
    context = browser.new_context(base_url=live_server.url, color_scheme=request.param)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto("/admin/login/")
    opened.fill("#id_username", "admin")
    opened.fill("#id_password", "password of the test")
    opened.keyboard.press("Enter")
    opened.wait_for_url("**/admin/")
    yield opened
    context.close()
    assert errors == []


def fill_in(page: Page, **values: str) -> None:
    for name, value in values.items():
        field = page.locator(f"#id_{name}")
        if name == "provider":
            field.select_option(value)
        else:
            field.fill(value)


def test_from_an_empty_form_to_a_proven_interface(page: Page, bucket: Bucket) -> None:
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
    assert page.locator("#test-steps tr").count() == 13
    assert not S3Interface.objects.exists(), "a test saves nothing"

    page.click("[name=_continue]")
    page.wait_for_url("**/change/")
    assert S3Interface.objects.get().secret_access_key == bucket.server.secret_access_key
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


def test_presets_fill_in_what_follows_and_keep_what_was_typed(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    fill_in(page, provider="spaces", region="fra1")
    page.locator("#id_region").blur()
    expect(page.locator("#id_endpoint_url")).to_have_value("https://fra1.digitaloceanspaces.com")
    fill_in(page, provider="b2")
    expect(page.locator("#id_endpoint_url")).to_have_value("https://s3.fra1.backblazeb2.com")
    fill_in(page, endpoint_url="https://mine.example.com")
    fill_in(page, provider="minio")
    expect(page.locator("#id_endpoint_url")).to_have_value("https://mine.example.com")
    assert page.locator("#id_endpoint_url").get_attribute("placeholder") == "https://minio.example.com:9000"
    expect(page.locator(".form-row.field-allow_http")).to_be_hidden()
    fill_in(page, endpoint_url="http://mine.example.com")
    expect(page.locator(".form-row.field-allow_http")).to_be_visible()


def test_a_mistake_is_marked_and_mended_by_its_button(page: Page, bucket: Bucket) -> None:
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
    expect(page.locator(".verdict h3")).to_have_text("The form needs correcting first")
    page.click("text=Use https://fra1.digitaloceanspaces.com")
    expect(page.locator("#id_endpoint_url")).to_have_value("https://fra1.digitaloceanspaces.com")


def test_the_permissions_follow_what_is_typed(page: Page, bucket: Bucket) -> None:
    page.goto("/admin/delivery_s3/s3interface/add/")
    page.click("#grants summary")
    fill_in(page, bucket_name="finance")
    expect(page.locator(".grant pre").first).to_contain_text("arn:aws:s3:::finance/*")


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
                assert _violations(page) == []
        with suppress(Exception):
            page.click("#grants summary", timeout=500)
        assert _violations(page) == [], address


def _violations(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]
