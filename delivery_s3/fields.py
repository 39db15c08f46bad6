"""The model field of a secret: encrypted in the database and in dumps, a `Secret` in Python.

A secret that cannot be decrypted does not break the page or the row it belongs to.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.fernet import InvalidToken
from django import forms
from django.db.models.query_utils import DeferredAttribute
from fernet_fields import EncryptedTextField

from delivery_s3.secret import Secret, UnreadableSecret

_DUMPED = re.compile(r"fernet-token:([\w-]*=*)", re.ASCII)
"""How a dump writes a secret: what the database holds, in URL-safe Base64."""


class _SecretAttribute(DeferredAttribute):
    """Wraps whatever is assigned, so that an instance never holds a secret as plain text."""

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class SecretField(EncryptedTextField):  # type: ignore[misc]
    """Text encrypted with the newest of FERNET_KEYS, read with whichever fits."""

    descriptor_class = _SecretAttribute

    def to_python(self, value: Any) -> Secret | None:
        """Return the secret; what a dump wrote is decrypted."""
        if value is None or isinstance(value, Secret):
            return value
        text = str(value)
        dumped = _DUMPED.fullmatch(text)
        return self._decrypted(urlsafe_b64decode(dumped[1])) if dumped else Secret(text)

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Secret | None:
        """Return the secret; an UnreadableSecret where the keys don't fit, so that the row can be shown."""
        return None if value is None else self._decrypted(bytes(value))

    def get_prep_value(self, value: Any) -> Any:
        """Keep the wrapper: only `get_db_prep_save` needs the text."""
        return value

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Encrypt, but put an unreadable secret back as it was."""
        secret = self.to_python(value)
        return None if secret is None else connection.Database.Binary(self._encrypted(secret))

    def value_to_string(self, obj: Any) -> str:
        """Return what `dumpdata` writes: the ciphertext, which `loaddata` restores where the same keys are set."""
        secret: Secret | None = self.value_from_object(obj)
        if not secret and not isinstance(secret, UnreadableSecret):
            return ""
        return f"fernet-token:{urlsafe_b64encode(self._encrypted(secret)).decode()}"

    def _encrypted(self, secret: Secret) -> bytes:
        if isinstance(secret, UnreadableSecret):
            return secret.ciphertext
        token: bytes = self.fernet.encrypt(secret.reveal().encode())
        return token

    def _decrypted(self, ciphertext: bytes) -> Secret:
        try:
            return Secret(self.fernet.decrypt(ciphertext).decode())
        except (InvalidToken, UnicodeDecodeError):
            return UnreadableSecret(ciphertext)


class SecretInput(forms.PasswordInput):
    """A password field that loses nothing when a save is refused, and shows nothing.

    What was typed goes along as ciphertext, which only this program can read, and for an hour only. Left empty, the
    field then means that.
    """

    template_name = "delivery_s3/secret_input.html"
    KEPT_SECONDS = 3600

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str:
        """Return what was typed; where nothing was, what was typed before."""
        typed: str = super().value_from_datadict(data, files, name) or ""
        return typed or self._unsealed(data.get(self._kept_name(name), ""))

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """Return what the template needs; `value` is the text that a refused form bears."""
        context: dict[str, Any] = super().get_context(name, None, attrs)
        context["kept_name"] = self._kept_name(name)
        context["kept"] = self._sealed(value) if value and isinstance(value, str) else ""
        return context

    @staticmethod
    def _kept_name(name: str) -> str:
        return f"{name}-kept"

    def _sealed(self, text: str) -> str:
        sealed: bytes = SecretField().fernet.encrypt(f"form:{text}".encode())
        return sealed.decode()

    def _unsealed(self, token: str) -> str:
        try:
            text: str = SecretField().fernet.decrypt(token.encode(), ttl=self.KEPT_SECONDS).decode()
        except (InvalidToken, UnicodeError):
            return ""
        return text.removeprefix("form:") if text.startswith("form:") else ""
