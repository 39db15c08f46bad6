"""The documentation site: all links are valid, nothing is loaded from other hosts, and it matches the code."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core.management import get_commands
from playwright.sync_api import Browser, Page

from anaphora.deliveries import documentation
from anaphora.deliveries.errors import DIAGNOSES
from delivery_s3.admin import S3InterfaceAdmin
from delivery_s3.connection_test.steps import STEPS, Outcome
from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import S3Interface
from delivery_s3.permissions import grants
from delivery_s3.providers import PROVIDERS
from tests.folder_destination.destination import FOLDER_NOT_USABLE
from tests.support import browsing, recipes
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
MANUAL = (DOCS / "s3-object-storage.md").read_text()
OUR_APPS = {"reports", "deliveries", "operations", "delivery_s3", "api"}
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements that make a browser load a resource, and the attribute with its URL."""


class Loaded(HTMLParser):
    """Collects the resources that a page loads, its anchors and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        if address := values.get(LOADING.get(tag, "")):
            self.addresses.append(address)
        if identifier := values.get("id"):
            self.anchors.add(identifier)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next heading of the same or a higher level."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def first_column(text: str) -> list[str]:
    return re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)


@pytest.mark.heavy
class TestSite:
    def test_every_diagnosis_has_the_address_that_pages_link_to(self, site: Path, settings: Any) -> None:
        settings.DOCS_URL = "/docs/"
        anchors = Loaded(site / "troubleshooting.html").anchors
        for diagnosis in set(DIAGNOSES.values()) - {FOLDER_NOT_USABLE}:
            page, _, anchor = documentation.address(diagnosis.title).partition("#")
            assert page == "/docs/troubleshooting.html"
            assert anchor in anchors, diagnosis.title

    def test_no_page_loads_anything_from_other_hosts(self, site: Path) -> None:
        pages = list(site.rglob("*.html"))
        assert len(pages) > 15
        for page in pages:
            addresses = Loaded(page).addresses
            assert addresses
            assert [each for each in addresses if urlsplit(each).netloc] == [], page.name
        for sheet in site.rglob("*.css"):
            assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text()) == [], sheet.name

    def test_every_code_block_is_rendered_as_one(self, site: Path) -> None:
        assert [page.name for page in site.rglob("*.html") if "```" in page.read_text()] == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


browser = browsing.browser


@pytest.mark.heavy
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_a_browser_shows_the_site(browser: Browser, address: str, scheme: Any, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page: Page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index", "s3-object-storage", "operation", "operations", "proof", "permissions", "troubleshooting"):
        page.goto(f"{address}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        colours = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
        assert colours == {"light": "default", "dark": "slate"}[scheme]
        assert browsing.violations(page) == [], name
        if folder := os.environ.get("DOCS_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=True)
    context.close()
    assert [url for url in asked if urlsplit(url).hostname != "127.0.0.1"] == []


class TestManual:
    def test_the_table_of_fields_matches_the_form(self) -> None:
        form = S3InterfaceForm()
        names = [str(name) for _, options in S3InterfaceAdmin.fieldsets for name in options["fields"]]
        assert set(names) == set(form.fields)
        labels = [str(form[name].label) for name in names]
        assert first_column(section(MANUAL, "## Fields")) == [label[0].upper() + label[1:] for label in labels]
        assert isinstance(admin.site.get_model_admin(S3Interface), S3InterfaceAdmin)

    @pytest.mark.parametrize("provider", [each for each in PROVIDERS.values() if each.code != "other"])
    def test_every_provider_has_its_section(self, provider: Any) -> None:
        text = section(MANUAL, f"### {provider.name}")
        assert f"| Provider | {provider.name} |" in text
        assert f"`{provider.region_example}`" in text
        assert f"`{provider.endpoint_example}`" in text or not provider.endpoint_example

    @pytest.mark.parametrize("name", ["Ceph", "Cloudflare R2", "Wasabi"])
    def test_other_providers_have_their_section(self, name: str) -> None:
        text = section(MANUAL, f"### {name}")
        assert f"| Provider | {PROVIDERS['other'].name} |" in text
        assert re.search(r"\| Custom endpoint \| `https://", text)

    def test_the_policies_match_those_on_the_page(self) -> None:
        plain = grants(bucket="example-bucket", prefix="reports/", role_arn="arn:aws:iam::123456789012:role/archive")
        key = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        locked = grants(bucket="example-bucket", prefix="reports/", object_lock=True, kms_key_id=key)
        assume, write, read, b2_write, b2_read = (each.text for each in plain)
        text = section(MANUAL, "## IAM permissions")
        shown = [block.strip() for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
        assert shown == [write, read, locked[0].text, assume, b2_write, b2_read]
        table = text.partition("### ")[0]
        named = re.findall(r'"((?:s3|kms|sts):[A-Z]\w+)"', "".join(each.text for each in [*plain, *locked]))
        assert {each for each in named if f"`{each}`" not in table} == set()

    def test_every_step_of_test_is_described(self) -> None:
        text = section(MANUAL, "## Test")
        assert first_column(text) == [title for title, _, _ in STEPS]
        for title, _, optional in STEPS:
            row = next(line for line in text.splitlines() if line.startswith(f"| **{title}**"))
            assert ("Optional" in row) == optional
        for outcome in Outcome:
            assert f"*{outcome}*" in text

    def test_the_five_symptoms_come_first(self) -> None:
        symptoms = re.findall(r"^### (.+)$", section(MANUAL, "## Troubleshooting"), re.MULTILINE)
        assert symptoms[:5] == [
            "Access Denied",
            "Invalid credentials",
            "Bucket not found",
            "Connection timeout",
            "SSL certificate error",
        ]
        assert all("(troubleshooting.md#" in section(MANUAL, f"### {symptom}") for symptom in symptoms[:5])


@pytest.mark.django_db
def test_the_permissions_are_described() -> None:
    text = section((DOCS / "permissions.md").read_text(), "## What each permission allows")
    shown = set(re.findall(r"`([\w*]+\.[\w*]+)`", text))
    there = {f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")}
    assert {each for each in shown if "*" not in each} <= there
    ours = {each for each in there if each.split(".")[0] in OUR_APPS}
    for_nothing = {
        "reports": ["report"],
        "deliveries": ["delivery", "interface", "heartbeat", "irregularity", "manifest", "signingkey"],
        "operations": [
            "alert",
            "dailytotal",
            "failuretotal",
            "installation",
            "notice",
            "uploadduration",
            "verification",
        ],
    }
    rows_of_the_program = {
        f"{app}.{action}_{model}"
        for app, models in for_nothing.items()
        for model in models
        for action in ("add", "change", "delete", "view")
    }
    assert ours - shown <= rows_of_the_program


def test_every_command_that_the_documentation_names_exists() -> None:
    known = set(get_commands())
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        named = re.findall(r"manage\.py\"? ([a-z]\w+)", page.read_text())
        assert [name for name in named if name not in known] == [], page.name


OPERATION = recipes.read("operation.md")


@pytest.mark.parametrize("name", OPERATION)
def test_the_commands_of_operation_are_valid(name: str) -> None:
    _, code = OPERATION[name]
    subprocess.run(["bash", "-n", "-c", code], check=True)
    shown = section((DOCS / "operation.md").read_text(), "## The variables")
    for variable in set(re.findall(r"\$([A-Z_]+)", code)) - {"INTERFACE"}:
        assert f"export {variable}=" in shown


def test_both_databases_can_be_backed_up_and_restored() -> None:
    for step in ("backup", "restore"):
        assert {f"{step}-sqlite", f"{step}-postgresql"} <= set(OPERATION)
