"""Wrong passwords lock out only the address that sent them, also behind a proxy."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from anaphora.client_address import client_address

pytestmark = pytest.mark.django_db
GUESSER, OWNER = "203.0.113.9", "198.51.100.7"


@pytest.fixture(autouse=True)
def limit(settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    User.objects.create_superuser("admin", password="right")


def log_in(password: str, *, forwarded: str = "", connected: str = "127.0.0.1") -> int:
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"} if forwarded else {}
    form = {"username": "admin", "password": password}
    return Client(REMOTE_ADDR=connected).post(reverse("admin:login"), form, headers=headers).status_code


@pytest.mark.parametrize("name", ["login", "admin:login"])
def test_the_page_names_the_user_who_is_logged_in_already(name: str) -> None:
    client = Client()
    client.force_login(User.objects.create_user("grace"))
    assert "You are authenticated as grace, but" in client.get(reverse(name)).content.decode()


def test_behind_a_proxy_guessing_locks_out_nobody_else(settings: Any) -> None:
    settings.HTTPS = True
    for _ in range(4):
        log_in("wrong", forwarded=GUESSER)
    assert log_in("right", forwarded=GUESSER) == 429
    assert log_in("right", forwarded=OWNER) == 302


def test_behind_a_proxy_the_client_s_own_header_is_ignored(settings: Any) -> None:
    settings.HTTPS = True
    for number in range(4):
        log_in("wrong", forwarded=f"192.0.2.{number}, {OWNER}, {GUESSER}")  # the proxy adds the last
    assert log_in("right", forwarded=f"192.0.2.99, {GUESSER}") == 429
    assert log_in("right", forwarded=OWNER) == 302


def test_without_a_proxy_the_header_is_ignored() -> None:
    for number in range(4):
        log_in("wrong", forwarded=f"192.0.2.{number}", connected=GUESSER)
    assert log_in("right", forwarded="192.0.2.99", connected=GUESSER) == 429
    assert log_in("right", connected=OWNER) == 302


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("", "127.0.0.1"),
        (GUESSER, GUESSER),
        (f" {OWNER} , {GUESSER} ", GUESSER),
        (f"{GUESSER}:50000", GUESSER),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:DB8::1]:50000", "2001:db8::1"),
        ("unknown", "127.0.0.1"),
        (f"{GUESSER},", "127.0.0.1"),
        ("'; --", "127.0.0.1"),
    ],
)
def test_the_last_address_counts_if_it_is_one(settings: Any, forwarded: str, expected: str) -> None:
    settings.HTTPS = True
    assert client_address(RequestFactory().get("/", headers={"X-Forwarded-For": forwarded})) == expected
