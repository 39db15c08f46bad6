"""Sign-in by OpenID Connect, with a real provider on this machine."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.test import Client
from django.urls import reverse

from anaphora.operations.audit_models import AuditEntry
from anaphora.operations.checks import oidc_groups_exist
from anaphora.operations.models import OidcAccount
from tests.support import servers

pytestmark = pytest.mark.django_db


class Provider:
    """A provider, and the redirects of a browser to the provider and back."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def has(self, subject: str, **claims: Any) -> None:
        requests.put(f"{self.issuer}/users/{subject}", json=claims, timeout=5).raise_for_status()

    def sign_in(self, client: Client, subject: str, following: str = "/timeline/") -> Any:
        """Go from the login page to the provider, sign in there, and return the response to the callback."""
        away = client.get(reverse("oidc_authentication_init"), {"next": following})
        assert away.status_code == 302, away.content
        assert away["Location"].startswith(f"{self.issuer}/oauth2/authorize"), away["Location"]
        assert "code_challenge=" in away["Location"]
        back = requests.post(away["Location"], data={"sub": subject}, allow_redirects=False, timeout=5)
        parts = urlsplit(back.headers["Location"])
        assert parts.path == reverse("oidc_authentication_callback")
        return client.get(parts.path, dict(parse_qsl(parts.query)))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with servers.openid_provider() as issuer:
        yield issuer


@pytest.fixture
def provider(server: str, settings: Any) -> Provider:
    cache.clear()
    settings.OIDC_ISSUER, settings.OIDC_NAME = server, "Example Login"
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = "archive", "the-client-secret"
    settings.OIDC_GROUPS = {"readers": "Viewer", "night-shift": "Operator", "auditors": "Auditor"}
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "anaphora.operations.oidc.OpenIDConnect",
    ]
    return Provider(server)


def groups_of(name: str) -> set[str]:
    return set(User.objects.get(username=name).groups.values_list("name", flat=True))


def shown_on(client: Client, answer: Any) -> str:
    assert answer.status_code == 302
    assert answer["Location"] == reverse("login")
    return client.get(answer["Location"]).content.decode()


def test_by_default_there_is_no_single_sign_on(client: Client) -> None:
    assert "Log in with" not in client.get(reverse("login")).content.decode()
    for name in ("oidc_authentication_init", "oidc_authentication_callback"):
        assert client.get(reverse(name)).status_code == 404


def test_a_person_signs_in_with_the_role_of_their_group(client: Client, provider: Provider) -> None:
    for address in (reverse("login"), reverse("admin:login")):
        page = client.get(f"{address}?next=/timeline/").content.decode()
        assert re.search(r'href="/oidc/start/\?next=/timeline/">Log in with Example Login<', page)
    provider.has("4711", preferred_username="grace", email="grace@example.com", groups=["readers", "others"])
    answer = provider.sign_in(client, "4711")
    assert (answer.status_code, answer["Location"]) == (302, "/timeline/")
    assert client.get("/timeline/").status_code == 200
    user = User.objects.get(username="grace")
    assert (groups_of("grace"), user.is_staff, user.is_superuser) == ({"Viewer"}, False, False)
    assert (user.email, user.has_usable_password()) == ("grace@example.com", False)
    entry = AuditEntry.objects.get(action="signed_in")
    assert (entry.actor, entry.address, entry.details) == ("grace", "127.0.0.1", {"backend": "OpenIDConnect"})


def test_groups_follow_the_provider_and_other_groups_stay(client: Client, provider: Provider) -> None:
    provider.has("4712", preferred_username="alan", groups=["readers"])
    provider.sign_in(client, "4712")
    User.objects.get(username="alan").groups.add(Group.objects.get(name="Uploader"))
    provider.has("4712", preferred_username="alan-renamed", groups=["night-shift", "auditors"])
    provider.sign_in(client, "4712")
    assert groups_of("alan") == {"Operator", "Auditor", "Uploader"}
    assert User.objects.get(username="alan").is_staff
    provider.has("4712", groups="readers")
    provider.sign_in(client, "4712")
    assert groups_of("alan") == {"Viewer", "Uploader"}
    assert not User.objects.get(username="alan").is_staff
    assert OidcAccount.objects.count() == 1


def test_nobody_signs_in_without_a_group(client: Client, provider: Provider) -> None:
    provider.has("4713", preferred_username="eve", groups=["others"])
    page = shown_on(client, provider.sign_in(client, "4713"))
    assert "none of the groups that may sign in" in page
    assert not User.objects.exists()
    entry = AuditEntry.objects.get(action="sign_in_refused")
    assert (entry.object, entry.actor_kind) == ("eve", "nobody")
    assert "none of the groups" in entry.details["problem"]
    assert client.get("/timeline/").status_code == 302


def test_a_mapped_group_that_does_not_exist_gives_no_access_and_is_named(
    client: Client, provider: Provider, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert oidc_groups_exist(databases=["default"]) == []
    settings.OIDC_GROUPS = {"readers": "Viewr", "auditors": "Auditor"}
    (message,) = oidc_groups_exist(databases=["default"])
    assert message.id == "operations.W001"
    assert "OIDC_GROUPS names the group 'Viewr'" in message.msg
    assert oidc_groups_exist() == []
    provider.has("4731", preferred_username="ada", groups=["readers"])
    assert "none of the groups" in shown_on(client, provider.sign_in(client, "4731"))
    assert not User.objects.filter(username="ada").exists()
    assert "OIDC_GROUPS names the group 'Viewr'" in caplog.text
    provider.has("4731", preferred_username="ada", groups=["readers", "auditors"])
    provider.sign_in(client, "4731")
    assert groups_of("ada") == {"Auditor"}


def test_a_local_account_is_not_taken_over(client: Client, provider: Provider) -> None:
    User.objects.create_superuser("root", email="root@example.com", password="x")
    provider.has("4714", preferred_username="root", email="root@example.com", groups=["readers"])
    assert "There is a local user root already" in shown_on(client, provider.sign_in(client, "4714"))
    provider.has("4715", preferred_username="other", email="root@example.com", groups=["readers"])
    provider.sign_in(client, "4715")
    assert not User.objects.get(username="other").is_superuser
    assert groups_of("root") == set()


def test_an_inactive_user_cannot_sign_in(client: Client, provider: Provider) -> None:
    provider.has("4716", preferred_username="mallory", groups=["readers"])
    provider.sign_in(client, "4716")
    User.objects.filter(username="mallory").update(is_active=False)
    assert client.get("/timeline/").status_code == 302
    AuditEntry.objects.all()._raw_delete("default")
    provider.has("4716", preferred_username="mallory", groups=["night-shift"])
    assert "Your account here is disabled" in shown_on(client, provider.sign_in(client, "4716"))
    assert groups_of("mallory") == {"Viewer"}
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object) == ("sign_in_refused", "mallory")
    assert "disabled" in entry.details["problem"]


@pytest.mark.parametrize("name", ["evil\u202etxt", "a\r\nb", "n\0l", "  ", ["root"], {"a": 1}, 5, "x" * 151, None])
def test_a_name_that_cannot_be_shown_is_refused(client: Client, provider: Provider, name: Any) -> None:
    provider.has("4718", preferred_username=name, groups=["readers"])
    assert "sends no user name" in shown_on(client, provider.sign_in(client, "4718"))
    assert not User.objects.exists()


def test_a_decomposed_name_is_the_same_name(client: Client, provider: Provider) -> None:
    User.objects.create_superuser("root", password="x")
    provider.has("4719", preferred_username="\uff52\uff4f\uff4f\uff54", groups=["readers"])  # full width
    assert "There is a local user root already" in shown_on(client, provider.sign_in(client, "4719"))
    assert AuditEntry.objects.get(action="sign_in_refused").object == "root"


@pytest.mark.parametrize("groups", [5, True, [["readers"]], [None], "readers,others"])
def test_groups_of_another_kind_give_nothing(client: Client, provider: Provider, groups: Any) -> None:
    provider.has("4720", preferred_username="kurt", groups=groups)
    assert shown_on(client, provider.sign_in(client, "4720"))
    assert not User.objects.exists()


def test_the_token_must_be_from_this_provider_and_for_this_client(provider: Provider, settings: Any) -> None:
    from anaphora.operations.oidc import OpenIDConnect

    provider.has("4717")
    back_to = "http://testserver/oidc/callback/"
    asked = {"client_id": "archive", "redirect_uri": back_to, "response_type": "code", "scope": "openid", "nonce": "n"}
    address = f"{provider.issuer}/oauth2/authorize"
    back = requests.post(address, params=asked, data={"sub": "4717"}, allow_redirects=False, timeout=5)
    code = dict(parse_qsl(urlsplit(back.headers["Location"]).query))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back_to, "client_id": "archive"}
    answer = requests.post(f"{provider.issuer}/oauth2/token", data=form | {"client_secret": "x"}, timeout=5)
    token = answer.json()["id_token"]
    backend = OpenIDConnect()
    backend.configure()
    assert backend.verify_token(token, nonce="n")["sub"] == "4717"
    with pytest.raises(SuspiciousOperation, match="Nonce"):
        backend.verify_token(token, nonce="another")
    for name, value in (("OIDC_CLIENT_ID", "another"), ("OIDC_ISSUER", "https://another.example.com")):
        before = getattr(settings, name)
        setattr(settings, name, value)
        with pytest.raises(SuspiciousOperation, match="somebody else"):
            backend.verify_token(token, nonce="n")
        setattr(settings, name, before)


@pytest.mark.parametrize("query", [{}, {"code": "x", "state": "y"}, {"error": "access_denied"}])
def test_an_unrequested_callback_ends_on_the_login_page(
    client: Client, provider: Provider, query: dict[str, str]
) -> None:
    assert shown_on(client, client.get(reverse("oidc_authentication_callback"), query))


def test_a_refusing_callback_signs_nobody_out_and_is_recorded(client: Client, provider: Provider) -> None:
    provider.has("4721", preferred_username="emmy", groups=["readers"])
    provider.sign_in(client, "4721")
    assert shown_on(client, client.get(reverse("oidc_authentication_callback"), {"error": "access_denied"}))
    assert client.get("/timeline/").status_code == 200
    entry = AuditEntry.objects.get(action="sign_in_refused")
    assert "did not confirm" in entry.details["problem"]


def test_failed_callbacks_lock_nobody_out_and_fill_no_table(client: Client, provider: Provider) -> None:
    for _ in range(12):
        client.get(reverse("oidc_authentication_init"))
        state = next(iter(client.session["oidc_states"]))
        answer = client.get(reverse("oidc_authentication_callback"), {"code": "a-stolen-code", "state": state})
        assert shown_on(client, answer)
    provider.has("4722", preferred_username="rosa", groups=["readers"])
    assert provider.sign_in(Client(), "4722")["Location"] == "/timeline/", "others at this address still sign in"
    assert AuditEntry.objects.filter(action="sign_in_refused").count() == 1
    assert not AccessAttempt.objects.exists(), "an attempt would store the authorization code"


def test_an_unreachable_provider_is_explained(client: Client, provider: Provider, settings: Any) -> None:
    settings.OIDC_ISSUER = "http://127.0.0.1:9"
    assert "does not answer as expected" in shown_on(client, client.get(reverse("oidc_authentication_init")))
    User.objects.create_user("grace", password="right")
    form = {"username": "grace", "password": "right"}
    assert client.post(reverse("login"), form).status_code == 302, "a password does not need the provider"
