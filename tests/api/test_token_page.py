"""The page of a new token: the token once, and commands that work as they stand there."""

import html
import re
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from anaphora.reports.models import Report
from tests.support.factories import make_report

pytestmark = pytest.mark.django_db(transaction=True)


def commands_of(page: str) -> dict[str, str]:
    """Return the commands on the page by their titles."""
    found = re.findall(r'<pre tabindex="0" aria-label="([^"]+)">(.*?)</pre>', page, re.DOTALL)
    return {title: html.unescape(text) for title, text in found}


def run(command: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_work_as_they_stand_there(client: Client, live_server: LiveServer, tmp_path: Path) -> None:
    client.force_login(User.objects.create_superuser("admin"))
    host = live_server.url.removeprefix("http://")
    form = {"name": "renderer", "scopes": ["ingest", "read"]}
    page = client.post(reverse("admin:api_apitoken_add"), form, headers={"host": host}).content.decode()
    commands = commands_of(page)
    assert list(commands) == ["Token", "Upload a report", "List the latest reports"]
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7 of the token page")
    run(commands["Upload a report"], tmp_path)
    report = Report.objects.get()
    assert report.dashboard.slug == "sales"
    assert str(report.pk) in run(commands["List the latest reports"], tmp_path)


def test_each_scope_has_its_command(admin_client: Client) -> None:
    make_report()
    page = admin_client.post(reverse("admin:api_apitoken_add"), {"name": "reader", "scopes": ["read"]})
    assert list(commands_of(page.content.decode())) == ["Token", "List the latest reports"]


@pytest.mark.browser
def test_the_token_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(reverse("admin:api_apitoken_add"))
    page.fill("#id_name", "renderer")
    page.get_by_label("ingest reports").check()
    page.click("input[name=_save]")
    expect(page.locator("h1").last).to_have_text("Token created")
    page.get_by_role("button", name="Copy: Token").click()
    expect(page.get_by_role("button", name="Copy: Token")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.get_by_label("Token", exact=True).inner_text()
