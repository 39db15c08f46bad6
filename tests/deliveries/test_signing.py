"""Signing keys: created once, stored encrypted, never shown, and rotated without a gap in the chain."""

import io
import json
from datetime import timedelta
from importlib import import_module

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from anaphora.deliveries import protection, signing
from anaphora.deliveries.manifest_models import Manifest, SigningKey
from delivery_s3.models import S3Interface
from tests.support.archives import FIRST, deliver_on, write
from tests.support.factories import make_policy
from tests.support.keys import new_key

pytestmark = pytest.mark.django_db


def headers() -> list[dict[str, object]]:
    return [json.loads(each.header) for each in Manifest.objects.order_by("sequence")]


def test_a_key_is_created_on_first_use_and_stored_encrypted() -> None:
    key = signing.current()
    assert signing.current() == key
    row = SigningKey.objects.get()
    assert b"PRIVATE" not in bytes(row.private_key)
    assert "PRIVATE" not in repr(key) + str(row) + row.public_key
    assert signing.find(key.fingerprint) == key
    assert signing.find("0" * 64) is None


def test_the_setting_takes_precedence_over_the_stored_key(settings: Settings) -> None:
    signing.current()
    settings.SIGNING_KEY = [new_key()]
    assert signing.current().fingerprint != SigningKey.objects.get().fingerprint
    with pytest.raises(CommandError, match="SIGNING_KEY"):
        call_command("rotate_signing_key")


def test_keys_are_reencrypted_with_the_newest_fernet_key(settings: Settings) -> None:
    key = signing.current()
    settings.FERNET_KEYS = ["a still newer key", *settings.FERNET_KEYS]
    call_command("rotate_fernet_keys", stdout=io.StringIO())
    settings.FERNET_KEYS = ["a still newer key"]
    assert signing.current() == key
    settings.FERNET_KEYS = ["quite another key"]
    with pytest.raises(signing.SigningProblem, match="FERNET_KEYS"):
        signing.current()
    with pytest.raises(CommandError, match="No key of FERNET_KEYS decrypts the signing key"):
        call_command("public_key")
    with pytest.raises(CommandError, match="signing key"):
        call_command("rotate_fernet_keys", stdout=io.StringIO())


def test_a_new_key_is_announced_by_the_former_one(interface: S3Interface) -> None:
    make_policy(interface)
    old = signing.current()
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    out = io.StringIO()
    call_command("rotate_signing_key", stdout=out)
    new = signing.current()
    assert out.getvalue() == new.public_pem != old.public_pem
    write(interface, FIRST + timedelta(days=2))
    assert [header["public_key"] for header in headers()] == [old.fingerprint, old.fingerprint, new.fingerprint]
    assert headers()[1]["next_public_key"] == {"fingerprint": new.fingerprint, "pem": new.public_pem}
    assert "next_public_key" not in headers()[2]


def test_after_the_loss_of_a_key_the_manifest_has_new_chain(interface: S3Interface, settings: Settings) -> None:
    make_policy(interface)
    old = signing.current()
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    settings.FERNET_KEYS = ["the former keys are lost"]
    call_command("rotate_signing_key", stdout=io.StringIO())
    S3Interface.objects.update(secret_access_key=interface.secret_access_key.reveal())
    write(S3Interface.objects.get(), FIRST + timedelta(days=2))
    assert old.fingerprint in str(headers()[1]["new_chain"])
    assert headers()[1]["public_key"] == signing.current().fingerprint
    assert "new_chain" not in headers()[2]


def test_the_interface_s_page_shows_the_public_key_and_never_the_private_one(
    interface: S3Interface, admin_client: Client, settings: Settings
) -> None:
    make_policy(interface)
    address = interface.admin_url
    assert "none yet" in admin_client.get(address).content.decode()
    deliver_on(interface, FIRST)
    write(interface, FIRST)
    protection.record(interface, {"grade": "locked", "text": "It is.", "advice": "", "attempts": {}, "checked_at": ""})
    page = admin_client.get(address).content.decode()
    assert signing.current().public_pem in page
    assert Manifest.objects.get().sha256 in page
    assert "locked by the store" in page
    assert "PRIVATE KEY" not in page
    private = new_key()
    settings.SIGNING_KEY = [private]
    page = admin_client.get(address).content.decode()
    assert signing.current().public_pem in page
    assert private.splitlines()[1] not in page
    settings.SIGNING_KEY = []
    settings.FERNET_KEYS = ["another"]
    assert "No key of FERNET_KEYS decrypts the signing key" in admin_client.get(address).content.decode()


@pytest.mark.parametrize("text", ["nonsense", "-----BEGIN PRIVATE KEY-----\nxxxx\n-----END PRIVATE KEY-----", ""])
def test_an_invalid_setting_is_refused_without_printing_it(text: str) -> None:
    parse = import_module("anaphora.settings")._signing_keys
    if not text:
        one, other = new_key(), new_key()
        assert parse(one.replace("\n", "\\n") + other) == [one, other]
        return
    with pytest.raises(ValueError, match="is not a") as error:
        parse(text)
    assert "xxxx" not in str(error.value)
