"""A model field for secrets: encrypted in the database and in dumps, a `Secret` in Python.

A secret that cannot be decrypted does not break the page or the row it belongs to.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.fernet import InvalidToken
from django import forms
from django.apps import apps
from django.db import transaction
from django.db.models.query_utils import DeferredAttribute
from fernet_fields import EncryptedTextField

from anaphora.secret import Secret, UnreadableSecret

_DUMP_FORMAT = re.compile(r"fernet-token:([\w-]*=*)", re.ASCII)
"""The format of a secret in a dump: the ciphertext of the database in URL-safe Base64."""


class _SecretAttribute(DeferredAttribute):
    """Converts assigned values to `Secret`, so that an instance never holds a secret as plain text."""

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class SecretField(EncryptedTextField):  # type: ignore[misc]
    """Text encrypted with the first key of FERNET_KEYS and decrypted with any of them."""

    descriptor_class = _SecretAttribute

    def to_python(self, value: Any) -> Secret | None:
        """Return the secret. Decrypts a value from a dump."""
        if value is None or isinstance(value, Secret):
            return value
        text = str(value)
        dumped = _DUMP_FORMAT.fullmatch(text)
        return self._decrypt(urlsafe_b64decode(dumped[1])) if dumped else Secret(text)

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Secret | None:
        """Return the secret, or an UnreadableSecret if no key decrypts it, so that the row can still be loaded."""
        return None if value is None else self._decrypt(bytes(value))

    def get_prep_value(self, value: Any) -> Any:
        """Return the `Secret` itself; `get_db_prep_save` encrypts it."""
        return value

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Return the ciphertext. An unreadable secret is saved unchanged."""
        secret = self.to_python(value)
        return None if secret is None else connection.Database.Binary(self._encrypt(secret))

    def value_to_string(self, obj: Any) -> str:
        """Return the ciphertext for `dumpdata`. `loaddata` restores it if FERNET_KEYS contains the same key."""
        secret: Secret | None = self.value_from_object(obj)
        if not secret and not isinstance(secret, UnreadableSecret):
            return ""
        return f"fernet-token:{urlsafe_b64encode(self._encrypt(secret)).decode()}"

    def _encrypt(self, secret: Secret) -> bytes:
        if isinstance(secret, UnreadableSecret):
            return secret.ciphertext
        token: bytes = self.fernet.encrypt(secret.reveal().encode())
        return token

    def _decrypt(self, ciphertext: bytes) -> Secret:
        try:
            return Secret(self.fernet.decrypt(ciphertext).decode())
        except (InvalidToken, UnicodeDecodeError):
            return UnreadableSecret(ciphertext)


def reencrypt_secrets() -> tuple[int, list[str]]:
    """Encrypt every secret of every model with the first key of FERNET_KEYS.

    Return the number of rows, and the names of the rows with a secret that no key decrypts.
    """
    count, unreadable = 0, []
    with transaction.atomic():
        for model in apps.get_models():
            names = [field.name for field in model._meta.local_fields if isinstance(field, SecretField)]
            for row in model._default_manager.select_for_update() if names else []:
                if any(isinstance(getattr(row, name), UnreadableSecret) for name in names):
                    unreadable.append(str(row))
                else:
                    row.save(update_fields=names)
                    count += 1
    return count, unreadable


class SecretInput(forms.PasswordInput):
    """A password input that keeps the typed secret if the form has errors, without showing it.

    The page contains the typed secret only as ciphertext in a hidden field, valid for KEPT_SECONDS. If the password
    input is then left empty, the secret from the hidden field is used.
    """

    template_name = "secret_input.html"
    KEPT_SECONDS = 3600

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str:
        """Return the typed secret. If the input is empty, return the secret kept in the hidden field."""
        typed: str = super().value_from_datadict(data, files, name) or ""
        return typed or self._decrypt_typed(data.get(self._kept_name(name), ""))

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """Return the template context. `value` is the typed text of a form with errors."""
        context: dict[str, Any] = super().get_context(name, None, attrs)
        context["kept_name"] = self._kept_name(name)
        context["kept"] = self._encrypt_typed(value) if value and isinstance(value, str) else ""
        return context

    @staticmethod
    def _kept_name(name: str) -> str:
        return f"{name}-kept"

    def _encrypt_typed(self, text: str) -> str:
        token: bytes = SecretField().fernet.encrypt(f"form:{text}".encode())
        return token.decode()

    def _decrypt_typed(self, token: str) -> str:
        try:
            text: str = SecretField().fernet.decrypt(token.encode(), ttl=self.KEPT_SECONDS).decode()
        except (InvalidToken, UnicodeError):
            return ""
        return text.removeprefix("form:") if text.startswith("form:") else ""
