"""Wrong passwords lock out only the address that sent them, also behind a proxy."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django.urls import reverse

from anaphora.client_address import client_address
from anaphora.operations.audit_models import AuditEntry

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


def test_users_without_staff_status_are_told_where_to_log_in_and_change_their_password(client: Client) -> None:
    user = User.objects.create_user("viewer", password="the first password")
    user.user_permissions.add(Permission.objects.get(codename="view_report"))
    form = {"username": "viewer", "password": "the first password"}
    assert "Users without staff status log in at /login/." in client.post("/admin/login/", form).text
    assert client.post("/login/", form).status_code == 302
    assert '<a href="/password/">Change password</a>' in client.get("/timeline/").text
    form = {"old_password": "wrong", "new_password1": "the second password", "new_password2": "the second password"}
    assert "The password was not changed." in client.post("/password/", form).text
    answer = client.post("/password/", form | {"old_password": "the first password"}, follow=True)
    assert "Your password was changed." in answer.text
    entry = AuditEntry.objects.filter(object_type="auth.user", action="changed").latest("id")
    assert (entry.actor, "the second password" in str(entry.details)) == ("viewer", False)
    assert client.login(username="viewer", password="the second password", request=RequestFactory().get("/"))
    user.set_unusable_password()  # signs in by OpenID Connect
    user.save()
    client.force_login(user)
    assert "/password/" not in client.get("/timeline/").text


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
