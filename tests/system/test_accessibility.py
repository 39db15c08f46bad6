"""Every page is accessible: axe-core finds no serious problem, in light and dark mode, on a laptop and on a phone.

The admin pages come from its URL patterns, so a new page is covered automatically.
"""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.template.loader import render_to_string
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from playwright.sync_api import Page, Route, ViewportSize, expect

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery, State
from anaphora.reports.models import Dashboard
from tests.support.buckets import Bucket
from tests.support.factories import NOON, make_interface, make_policy, make_report
from tests.support.samples import MAKERS

pytestmark = [pytest.mark.browser, pytest.mark.heavy, pytest.mark.django_db(transaction=True)]

LAPTOP: ViewportSize = {"width": 1366, "height": 768}
PHONE: ViewportSize = {"width": 390, "height": 844}
OURS = {"reports", "deliveries", "api", "delivery_s3"}
SEEN_ELSEWHERE = ("_history", "_delete", "_interface_add", "_interface_change")
"""Suffixes of the names of pages that Django has for each model, or that redirect. The heavy test opens them."""
NOT_PAGES = ("_content", "_guess", "_test", "_remove", "_grants", "_retry", "_verify", "_new", "_next_runs")
"""Suffixes of the names of admin URLs that return a file or a fragment of a page."""

PASSWORD = "password of the test"
COLOURS = ["color-contrast", "link-in-text-block"]
NEVER = {
    *("label", "label-title-only", "select-name", "html-has-lang", "nested-interactive"),
    *COLOURS,
}
"""Rules that no page may violate, regardless of the impact that axe assigns to them."""


@pytest.fixture(autouse=True)
def with_axe(page: Page) -> None:
    """Load axe into each page, and disable transitions, so that colours are not checked while they change."""
    page.add_init_script(AXE_SCRIPT)
    page.add_init_script("""
        const still = new CSSStyleSheet();
        still.replaceSync("* { transition: none !important; }");
        document.adoptedStyleSheets = [still];
    """)


@pytest.fixture
def everything(bucket: Bucket, page: Page) -> None:
    """Create at least one row of each model, deliveries in several states, and a user who may only view reports."""
    frankfurt = make_interface(bucket.server, bucket.name, name="Archive in Frankfurt")
    schedule = CrontabSchedule.objects.create(hour="6", minute="0")
    sales = Dashboard.objects.create(slug="sales", title="Sales overview")
    make_policy(frankfurt, name="Sales to Frankfurt").dashboards.add(sales)
    make_policy(frankfurt, name="Everything else, every morning", schedule=schedule)
    make_report(b"region,revenue\nnorth,1\n", filename="sales.csv")
    engine.deliver_due(frankfurt.pk)
    make_report(b"region,revenue\nnorth,2\n", filename="sales.csv", rendered_at=NOON + timedelta(days=1))
    make_report(b"region,revenue\nnorth,3\n", filename="sales.csv", rendered_at=NOON + timedelta(days=2))
    failed = Delivery.objects.exclude(state=State.DELIVERED).latest("pk")
    Delivery.objects.filter(pk=failed.pk).update(state=State.FAILED, diagnosis="access_denied", detail="403")
    tokens.create("renderer", [Scope.INGEST])
    Group.objects.create(name="Auditors")
    PeriodicTask.objects.create(name="every morning", task="deliveries.sweep", crontab=schedule)
    viewer = User.objects.create_user("viewer", password=PASSWORD)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_report", "read_report"]))
    for row in (sales, frankfurt):
        kind = ContentType.objects.get_for_model(row)
        LogEntry.objects.create(
            user=viewer, content_type=kind, object_id=str(row.pk), object_repr=str(row), action_flag=CHANGE
        )


def admin_pages(apps: set[str], left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the URLs of the admin pages of these apps: lists, forms, histories, and our own pages."""
    if not left_out:
        yield from (reverse("admin:app_list", args=[app]) for app in sorted(apps))
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label not in apps:
            continue
        row = model._default_manager.first()
        for pattern in model_admin.get_urls():
            if not pattern.name or pattern.name.endswith((*NOT_PAGES, *left_out)):
                continue
            if not pattern.pattern.converters:
                yield reverse(f"admin:{pattern.name}")
            elif row is not None:
                yield reverse(f"admin:{pattern.name}", args=[row.pk])


def other_pages() -> list[str]:
    return [
        *(reverse(f"admin:{name}") for name in ("index", "password_change", "password_change_done")),
        "/timeline/",
        "/timeline/sales/",
        "/timeline/sales/compare/?from=2026-03-01&to=2026-03-02T23:59",
        "/timeline/sales/compare/",
        "/timeline/there-is-none/",
        "/there-is-none/",
        "/password/",
        "/api/v1/docs",
    ]


def findings(page: Page, *rules: str) -> list[str]:
    """Return axe's findings on the page, by all rules or these, and a finding if it needs horizontal scrolling."""
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    violations = page.evaluate("options => axe.run(options).then(results => results.violations)", options)
    found = [
        f"{each['id']}: {node['html'][:160]}"
        for each in violations
        if each["impact"] in {"serious", "critical"} or each["id"] in NEVER
        for node in each["nodes"]
    ]
    width = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    return [*found, f"{width} pixels too wide"] if width > 0 else found


def findings_in_both_schemes(page: Page) -> list[str]:
    """Return the findings on a laptop in light mode and, for rules that depend on it, on a phone in dark mode."""
    page.set_viewport_size(LAPTOP)
    page.emulate_media(color_scheme="light")
    found = findings(page)
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    return found + findings(page, *COLOURS)


def check(page: Page, addresses: list[str]) -> None:
    """Open each page once, and check it in both color schemes."""
    found = {}
    for address in addresses:
        page.goto(address)
        found[address] = findings_in_both_schemes(page)
    assert {address: each for address, each in found.items() if each} == {}


def log_in(page: Page, user: str, password: str) -> None:
    page.goto("/login/")
    page.fill("#id_username", user)
    page.fill("#id_password", password)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_our_pages_are_accessible(page: Page, everything: None) -> None:
    pages = [*admin_pages(OURS, SEEN_ELSEWHERE), *other_pages()]
    assert len(pages) > 25
    check(page, pages)


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_every_page_is_accessible(page: Page, everything: None, size: ViewportSize) -> None:
    page.set_viewport_size(size)
    found = {}
    for address in [*admin_pages({model._meta.app_label for model in admin.site._registry}), *other_pages()]:
        page.goto(address)
        found[address] = findings(page)
    assert {address: each for address, each in found.items() if each} == {}


def test_pages_of_other_users_are_accessible(page: Page, everything: None, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    page.click("#logout-form button")
    assert findings_in_both_schemes(page) == []
    check(page, ["/login/", "/admin/login/", "/api/v1/docs", "/there-is-none/"])
    log_in(page, "viewer", PASSWORD)
    check(page, ["/timeline/", "/timeline/sales/", "/admin/", "/admin/reports/report/", "/api/v1/docs"])
    page.context.clear_cookies()
    log_in(page, "viewer", "a guess")
    assert page.title().startswith("Too many attempts")
    assert findings_in_both_schemes(page) == []


def test_pages_after_a_form_are_accessible(page: Page, everything: None) -> None:
    page.goto(reverse("admin:api_apitoken_add"))
    page.fill("#id_name", "warehouse")
    for box in page.locator("[name=scopes]").all():
        box.check()
    page.click("input[name=_save]")
    expect(page.locator("h1").last).to_have_text("Token created")
    assert findings_in_both_schemes(page) == []

    page.goto(Delivery.objects.get(state=State.DELIVERED).admin_url)
    page.get_by_role("button", name="Verify now").click()
    expect(page.locator(".messagelist")).to_contain_text("Verified at")
    assert findings_in_both_schemes(page) == []

    for kind in ("Every hour", "Weekly", "Crontab expression"):
        page.goto(reverse("admin:deliveries_archivepolicy_add"))
        page.get_by_label(kind).check()
        expect(page.locator(".next-runs li")).to_have_count(3)
        assert findings_in_both_schemes(page) == [], kind
    page.get_by_label("Minute, hour").fill("0 6 * *")
    expect(page.locator(".next-runs")).to_contain_text("Enter five fields")

    make_report(MAKERS["xlsx"][1](7), filename="sales.xlsx", dashboard="workbook")
    check(page, ["/timeline/workbook/"])


def answer(html: str, route: Route) -> None:
    route.fulfill(body=html, content_type="text/html")


def test_error_pages_are_accessible(page: Page) -> None:
    names = ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"]
    for name in names:
        page.route(f"**/{name}", partial(answer, render_to_string(name)))
    check(page, [f"/{name}" for name in names])


FOCUSED = """() => {
    const focused = document.activeElement;
    if (focused === document.body) return null;
    const outlined = focused.closest(".select2-selection") ?? focused;
    const {outlineStyle, outlineWidth} = getComputedStyle(outlined);
    return [outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, focused.outerHTML.slice(0, 160)];
}"""
"""The focused element, and whether its focus is visible; null if the focus has left the page."""


def test_the_focus_is_visible_on_every_tab_stop(page: Page) -> None:
    make_report(b"region,revenue\nnorth,1\n", filename="sales.csv")
    for path in ("/admin/deliveries/archivepolicy/add/", "/admin/reports/report/", "/timeline/sales/"):
        page.goto(path)
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Tab")
        stops = []
        while stop := page.evaluate(FOCUSED):
            stops.append(stop)
            assert len(stops) < 100, "the Tab key must leave the page eventually"
            page.keyboard.press("Tab")
        assert len(stops) > 5
        assert [html for visible, html in stops if not visible] == [], path


def test_the_progress_of_a_backfill_updates_without_reloading(page: Page, bucket: Bucket) -> None:
    policy = make_policy(make_interface(bucket.server, bucket.name))
    make_report()
    page.goto(reverse("admin:deliveries_archivepolicy_backfill", args=[policy.pk]))
    expect(page.locator("#content-main strong")).to_have_text("0 of 1")
    page.evaluate("window.kept = true")
    assert engine.deliver_due(policy.interface_id).complete
    expect(page.locator("#content-main strong")).to_have_text("1 of 1")
    assert page.evaluate("window.kept"), "the page is still the same one"
