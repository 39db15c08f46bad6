"""A real browser: fixtures and checks shared by the tests of pages."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tests.support.buckets import Bucket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 15_000  # milliseconds
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright runs an event loop in this thread, in which Django refuses to use the database.
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


def violations(page: Page) -> list[str]:
    """Return the accessibility problems of a page: axe-core's serious and critical findings."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


def save_small(picture: bytes, target: Path) -> None:
    """Save a picture with 256 colours: a third of the size, without a visible difference."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)


DISGUISE = """pairs => {
    const disguise = text => pairs.reduce((found, [from, to]) => found.replaceAll(from, to), text);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) walker.currentNode.data = disguise(walker.currentNode.data);
    for (const input of document.querySelectorAll("input")) input.setAttribute("value", disguise(input.value));
    document.querySelector(".app-folder_destination")?.remove();
}"""
"""Replaces names used by the tests by realistic ones, and removes the tests' own kind of destination."""


def disguise(page: Page, bucket: Bucket) -> None:
    pairs = [
        (bucket.server.endpoint, "https://s3.eu-central-1.example.com"),
        (bucket.server.access_key_id, "AKIAIOSFODNN7EXAMPLE"),
        (bucket.name, "reports-archive"),
        (page.url.partition("/admin/")[0], "https://archive.example.com"),
        (str(settings.DATA_DIR), "/var/lib/anaphora"),
    ]
    page.evaluate(DISGUISE, pairs)
