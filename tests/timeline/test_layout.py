"""On laptops, the report is above the film strip and the calendar, and visible without scrolling."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, ViewportSize

from anaphora.deliveries.models import Heartbeat, Role
from tests.support.factories import NOON, make_report
from tests.timeline.test_previews import png

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("size", [(1280, 800), (1366, 768)])
def test_the_report_is_visible_without_scrolling(page: Page, size: tuple[int, int]) -> None:
    for role in Role:  # no notice that a process is missing
        Heartbeat.objects.create(role=role, host="archive-1", seen_at=timezone.now())
    for number in range(3):
        make_report(png(size=(1200, 700)), filename="sales.png", rendered_at=NOON + timedelta(days=number))
    width, height = size
    page.set_viewport_size(ViewportSize(width=width, height=height))
    page.goto("/timeline/sales/")
    page.wait_for_function("document.querySelector('.sheet .picture')?.naturalWidth > 0")
    top = {
        name: page.locator(name).first.bounding_box() or {"y": -1.0}
        for name in (".sheet .picture", ".strip", ".calendar")
    }
    assert top[".sheet .picture"]["y"] < height * 0.45, "more than half of the window shows the report"
    assert top[".sheet .picture"]["y"] < top[".strip"]["y"] < top[".calendar"]["y"]
