"""The hints of the providers: complete, in the page for everybody, and with a script those of the chosen one."""

import re

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from delivery_s3.providers import HINTED, PROVIDERS

ADD = "admin:delivery_s3_s3interface_add"


@pytest.mark.parametrize("code", PROVIDERS)
def test_each_provider_explains_each_field(code: str) -> None:
    assert set(PROVIDERS[code].hints) == set(HINTED)
    assert all(hint.endswith(".") for hint in PROVIDERS[code].hints.values())


@pytest.mark.django_db
def test_all_hints_are_in_the_page_without_scripts(admin_client: Client) -> None:
    page = admin_client.get(reverse(ADD)).content.decode()
    for name in HINTED:
        help_text = page.partition(f'id="id_{name}_helptext"')[2].partition("</details>")[0]
        assert re.findall(r'data-provider="(\w+)"', help_text) == list(PROVIDERS)


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_hints_follow_the_chosen_provider(page: Page) -> None:
    page.goto(reverse(ADD))
    for code in ("b2", "minio", "aws"):
        page.select_option("#id_provider", code)
        for name in HINTED:
            expect(page.locator(f"#id_{name}_helptext")).to_have_text(PROVIDERS[code].hints[name], use_inner_text=True)
