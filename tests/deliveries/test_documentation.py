"""Pages that show a diagnosis link to its section in the documentation, if DOCS_URL is set."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from anaphora.deliveries import documentation, engine
from anaphora.deliveries.models import Delivery
from delivery_s3.models import S3Interface
from tests.support.factories import make_policy, make_report

SITE = "https://archive.example.com/docs"


@pytest.mark.parametrize("base", [SITE, f"{SITE}/"])
def test_a_title_has_an_address(settings: Any, base: str) -> None:
    settings.DOCS_URL = base
    title = "Clock differs from the store's"
    assert documentation.address(title) == f"{SITE}/troubleshooting.html#clock-differs-from-the-stores"


def test_without_a_documentation_site_there_is_no_link(settings: Any) -> None:
    settings.DOCS_URL = ""
    assert documentation.address("Access Denied") == documentation.link("Access Denied") == ""


def test_a_title_cannot_add_markup(settings: Any) -> None:
    settings.DOCS_URL = '/docs/"><script>'
    assert "<script>" not in documentation.link("<script>")


@pytest.mark.django_db
class TestPages:
    def link(self, anchor: str) -> str:
        return f'href="{SITE}/troubleshooting.html#{anchor}"'

    def test_a_failed_test_links_to_its_section(
        self, admin_client: Client, interface: S3Interface, settings: Any
    ) -> None:
        S3Interface.objects.update(test_passed=False, tested_at="2026-03-01T12:00Z", test_report=self.report())
        address = reverse("admin:delivery_s3_s3interface_change", args=[interface.pk])
        assert "troubleshooting.html" not in admin_client.get(address).content.decode()
        settings.DOCS_URL = SITE
        assert self.link("bucket-not-found") in admin_client.get(address).content.decode()

    def test_a_paused_interface_links_to_its_section(
        self, admin_client: Client, interface: S3Interface, settings: Any
    ) -> None:
        settings.DOCS_URL = SITE
        S3Interface.objects.update(diagnosis="access_denied", failures=1, paused_until="2026-03-01T12:00Z")
        for address in (reverse("admin:delivery_s3_s3interface_change", args=[interface.pk]), reverse("admin:index")):
            assert self.link("access-denied") in admin_client.get(address).content.decode(), address

    def test_a_failed_delivery_links_to_its_section(
        self, admin_client: Client, interface: S3Interface, settings: Any
    ) -> None:
        make_policy(interface)
        make_report().local_path.unlink()
        engine.deliver_due(interface.pk)
        address = reverse("admin:deliveries_delivery_change", args=[Delivery.objects.get().pk])
        assert "troubleshooting.html" not in admin_client.get(address).content.decode()
        settings.DOCS_URL = SITE
        assert self.link("local-copy-missing") in admin_client.get(address).content.decode()

    def test_a_missing_worker_links_to_its_section(self, admin_client: Client, settings: Any) -> None:
        settings.DOCS_URL = SITE
        page = admin_client.get(reverse("admin:index")).content.decode()
        assert self.link("no-worker-runs") in page
        assert self.link("no-beat-runs") in page

    def report(self) -> dict[str, Any]:
        diagnosis = {"title": "Bucket not found", "meaning": "It is not there.", "remedy": "Create it."}
        return {"passed": False, "tested_at": "2026-03-01T12:00:00+00:00", "diagnosis": diagnosis, "steps": []}
