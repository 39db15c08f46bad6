from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection as database

from anaphora.operations.audit_models import AuditEntry
from anaphora.secret import UnreadableSecret
from delivery_s3.models import S3Interface
from tests.support.commands import run_command

pytestmark = pytest.mark.django_db


def stored_secret(interface: S3Interface) -> bytes:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT secret_access_key FROM delivery_s3_s3interface WHERE interface_ptr_id = %s", [interface.pk]
        )
        return bytes(cursor.fetchone()[0])


def rotate() -> tuple[str, str]:
    return run_command("rotate_fernet_keys")


class TestSecrets:
    def test_a_secret_is_encrypted_at_rest_and_masked_in_memory(self, interface: S3Interface) -> None:
        loaded = S3Interface.objects.get()
        assert loaded.secret_access_key == interface.secret_access_key
        assert interface.secret_access_key.reveal().encode() not in stored_secret(interface)
        assert interface.secret_access_key.reveal() not in repr(loaded.secret_access_key)
        assert interface.secret_access_key.reveal() not in repr(vars(loaded))

    def test_rotation_encrypts_with_the_newest_key_and_keeps_the_value(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = S3Interface.objects.get().secret_access_key
        self._use_keys(["a third key", *settings.FERNET_KEYS], settings)
        out, problem = rotate()
        assert (out, problem) == ("1 re-encrypted with the first key of FERNET_KEYS.\n", "")
        self._use_keys(["a third key"], settings)
        assert S3Interface.objects.get().secret_access_key == secret

    def test_a_secret_that_no_key_decrypts_is_reported_and_kept(
        self, interface: S3Interface, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, keys = stored_secret(interface), settings.FERNET_KEYS
        self._use_keys(["a foreign key"], settings)
        loaded = S3Interface.objects.get()
        assert isinstance(loaded.secret_access_key, UnreadableSecret)
        loaded.save()
        assert stored_secret(interface) == before
        assert f"the secret of: {interface.name}" in rotate()[1]
        assert AuditEntry.objects.latest("id").details == {"reencrypted": 0, "not_decrypted": 1}
        self._use_keys(keys, settings)
        assert not isinstance(S3Interface.objects.get().secret_access_key, UnreadableSecret)

    @staticmethod
    def _use_keys(keys: list[str], settings: Any) -> None:
        """Set FERNET_KEYS as a restart does."""
        settings.FERNET_KEYS = keys
        forget_keys()


def forget_keys() -> None:
    """Clear the keys that the field has cached."""
    cached: dict[str, Any] = S3Interface._meta.get_field("secret_access_key").__dict__
    for name in ("keys", "fernet_keys", "fernet"):
        cached.pop(name, None)


@pytest.fixture(autouse=True)
def fresh_keys() -> Iterator[None]:
    yield
    forget_keys()
