"""Secrets are never shown: on no page, to no kind of user, and neither in dumps nor on error pages."""

import io
import json
import logging
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection as database
from django.db.models import Q
from django.test import Client
from django.urls import reverse

from anaphora.api import tokens
from anaphora.api.models import Scope
from anaphora.secret import MASK, Secret, UnreadableSecret
from delivery_s3.connection_test import services
from delivery_s3.models import S3Interface
from tests.support.addresses import addresses, one_of_each
from tests.timeline.test_previews import png

pytestmark = pytest.mark.django_db

OURS = ("reports", "deliveries", "timeline", "api", "operations", "delivery_s3")
CHANGE = "admin:delivery_s3_s3interface_change"
PARTS = 4
"""The long test is divided into parts, so that several processes can run it."""


@pytest.fixture
def everything(interface: S3Interface) -> dict[str, Any]:
    return one_of_each(interface, png())


KEEPERS = Q(codename__regex="^(view|change)_(s3interface|alertchannel)$")


def of_interfaces() -> list[User]:
    """Return staff users who may view or change models with secrets, and a superuser."""
    return [*(staff(each) for each in permissions(KEEPERS)), User.objects.create_superuser("all")]


def others() -> list[User]:
    """Return staff users with each other permission of the product, with pairs for interfaces, and with none."""
    pairs = combinations(permissions(Q(codename__endswith="s3interface")), 2)
    return [staff(), *(staff(each) for each in permissions(~KEEPERS)), *(staff(*pair) for pair in pairs)]


def permissions(condition: Q) -> list[Permission]:
    return list(Permission.objects.filter(condition, content_type__app_label__in=OURS).order_by("pk"))


def staff(*chosen: Permission) -> User:
    user = User.objects.create_user("+".join(each.codename for each in chosen) or "none", is_staff=True)
    user.user_permissions.set(chosen)
    return user


def body(answer: Any) -> str:
    content = answer.getvalue() if answer.streaming else answer.content
    return f"{content.decode('utf-8', 'replace')} {dict(answer.headers)}"


def test_no_page_shows_a_secret_to_users_who_may_edit_it(
    client: Client, everything: dict[str, Any], settings: Any
) -> None:
    walk(client, everything, settings, [None, *of_interfaces()])


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(PARTS))
def test_no_page_shows_a_secret_to_anybody_else(
    client: Client, everything: dict[str, Any], settings: Any, part: int
) -> None:
    walk(client, everything, settings, others()[part::PARTS])


def walk(client: Client, everything: dict[str, Any], settings: Any, users: Sequence[User | None]) -> None:
    """Open every page as every user; None means without login."""
    stored = everything["interface"].secret_access_key.reveal()
    sentinels = [stored, "the-secret-part", *settings.FERNET_KEYS, settings.SECRET_KEY, everything["apitoken"].digest]
    paths = [path for path in addresses(everything) if not path.endswith(("/logout/", "/jsi18n/"))]
    seen = 0
    for user in users:
        client.logout()
        if user:
            client.force_login(user)
        for path in paths:
            answer = client.get(path)
            seen += answer.status_code == 200
            shown = body(answer)
            for sentinel in sentinels:
                assert sentinel not in shown, (user, path)
    assert seen > len(users)


def test_a_read_only_page_shows_dots_and_nothing_technical(client: Client, interface: S3Interface) -> None:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_s3interface"))
    client.force_login(user)
    page = body(client.get(reverse(CHANGE, args=[interface.pk])))
    assert MASK in page
    assert interface.secret_access_key.reveal() not in page
    assert "Send reports unencrypted" not in page
    assert ">None<" not in page


class TestDumps:
    def test_a_dump_holds_the_ciphertext_and_restores_the_secret(self, interface: S3Interface, tmp_path: Any) -> None:
        secret = S3Interface.objects.get().secret_access_key
        dump = self.dump()
        assert secret.reveal() not in dump
        file = tmp_path / "dump.json"
        file.write_text(dump)
        S3Interface.objects.all().delete()
        call_command("loaddata", file, verbosity=0)
        assert S3Interface.objects.get().secret_access_key == secret

    def test_a_secret_that_no_key_decrypts_survives_too(self, interface: S3Interface, tmp_path: Any) -> None:
        with database.cursor() as cursor:
            cursor.execute("UPDATE delivery_s3_s3interface SET secret_access_key = %s", [b"of a foreign key"])
        file = tmp_path / "dump.json"
        file.write_text(self.dump())
        S3Interface.objects.all().delete()
        call_command("loaddata", file, verbosity=0)
        restored = S3Interface.objects.get().secret_access_key
        assert isinstance(restored, UnreadableSecret)
        assert restored.ciphertext == b"of a foreign key"

    @staticmethod
    def dump() -> str:
        out = io.StringIO()
        call_command("dumpdata", "deliveries.interface", "delivery_s3", stdout=out)
        return out.getvalue()


@pytest.mark.parametrize("debug", [True, False])
def test_an_error_page_shows_no_secret_stored_or_typed(
    admin_client: Client,
    interface: S3Interface,
    settings: Any,
    debug: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.DEBUG = debug
    settings.CELERY_BROKER_URL = "amqp://user:broker-password@127.0.0.1//"
    stored = interface.secret_access_key.reveal()

    def fail(tested: S3Interface) -> None:
        plain, typed = interface.secret_access_key.reveal(), tested.secret_access_key.reveal()
        raise RuntimeError(f"a bug that quotes {typed} and {plain!r}")

    monkeypatch.setattr(services, "start_test", fail)
    admin_client.raise_request_exception = False
    form = {
        "name": "tried", "provider": "other", "access_key_id": "KEY", "secret_access_key": "typed-and-secret",
        "region": "us-east-1", "bucket_name": "bucket", "endpoint_url": interface.endpoint_url,
        "addressing_style": "auto",
    }  # fmt: skip
    with caplog.at_level(logging.CRITICAL):
        answer = admin_client.post(reverse("admin:delivery_s3_s3interface_test_new"), form)
    assert answer.status_code == 500
    shown = body(answer)
    assert ("RuntimeError" in shown) is debug
    for sentinel in (stored, "typed-and-secret", "broker-password", *settings.FERNET_KEYS, settings.SECRET_KEY):
        assert sentinel not in shown, sentinel


def test_an_error_page_of_the_api_shows_no_secret(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = "the-key-that-signs"
    _, token = tokens.create("reader", [Scope.READ])

    def fail(*args: Any) -> None:
        raise RuntimeError(f"a bug that quotes {settings.SECRET_KEY}")

    monkeypatch.setattr("anaphora.api.routes.with_interfaces", fail)
    client.raise_request_exception = False
    with caplog.at_level(logging.CRITICAL):
        answer = client.get("/api/v1/reports", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 500
    assert "RuntimeError" in body(answer)
    assert settings.SECRET_KEY not in body(answer)


def test_an_error_page_shows_no_password_of_the_broker_and_no_credentials_of_a_machine(
    admin_client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = True
    settings.CELERY_BROKER_URL = "amqp://user:p%40ss-of-broker@127.0.0.1//"

    def fail(*args: Any) -> None:
        password = "p@ss-of-broker"
        credentials = ReadOnlyCredentials("AKID", "secret-of-machine", "token-of-machine")
        raise RuntimeError(len(password) + len(credentials))

    monkeypatch.setattr("anaphora.timeline.view_context.dashboard_cards", fail)
    admin_client.raise_request_exception = False
    with caplog.at_level(logging.CRITICAL):
        shown = body(admin_client.get("/timeline/"))
    assert "RuntimeError" in shown
    for sentinel in ("p@ss-of-broker", "secret-of-machine", "token-of-machine"):
        assert sentinel not in shown, sentinel


class TestSecret:
    secret = Secret("hidden-text")

    @pytest.mark.parametrize("render", [str, repr, "{}".format, "%s".__mod__, lambda value: f"{value!s:>5}"])
    def test_it_renders_as_dots(self, render: Any) -> None:
        assert "hidden-text" not in render(self.secret)

    def test_it_is_not_serializable_to_json(self) -> None:
        with pytest.raises(TypeError):
            json.dumps({"secret": self.secret})

    def test_assigned_values_are_wrapped(self) -> None:
        interface = S3Interface(secret_access_key="hidden-text")
        assert interface.secret_access_key == self.secret
        setattr(interface, "secret_access_key", "another")  # noqa: B010
        assert "another" not in repr(vars(interface))
