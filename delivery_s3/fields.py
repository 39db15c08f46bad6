"""The model field of a secret: encrypted in the database, masked in Python, and never the ruin of a page."""

from typing import Any

from cryptography.fernet import InvalidToken
from fernet_fields import EncryptedTextField

from delivery_s3.storage import Secret


class UnreadableSecret(Secret):
    """Stands for a secret that no key of FERNET_KEYS decrypts. It keeps the ciphertext, so saving loses nothing."""

    ciphertext: bytes

    def __new__(cls, ciphertext: bytes) -> "UnreadableSecret":
        """Make an empty secret that remembers `ciphertext`."""
        secret = super().__new__(cls, "")
        secret.ciphertext = ciphertext
        return secret


class SecretField(EncryptedTextField):  # type: ignore[misc]
    """Text encrypted with the newest of FERNET_KEYS, read with whichever fits."""

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Secret | None:
        """Return the secret; an UnreadableSecret where the keys don't fit, so that the row can be shown."""
        try:
            text = super().from_db_value(value, expression, connection, *args)
        except InvalidToken:
            return UnreadableSecret(bytes(value))
        return None if text is None else Secret(text)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Encrypt, but put an unreadable secret back as it was."""
        if isinstance(value, UnreadableSecret):
            return connection.Database.Binary(value.ciphertext)
        return super().get_db_prep_save(value, connection)
