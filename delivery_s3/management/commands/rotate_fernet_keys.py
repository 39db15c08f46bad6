"""`manage.py rotate_fernet_keys`: re-encrypt every secret with the newest key."""

from typing import Any

from django.core.management.base import CommandError

from anaphora import commands
from delivery_s3.interfaces import reencrypt_secrets


class Command(commands.Command):
    """To run after a new key was put first into FERNET_KEYS; the old keys may go once this succeeded."""

    help = "Re-encrypts every stored secret with the first key of FERNET_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        """Re-encrypt, and name what no key decrypts."""
        done, unreadable = reencrypt_secrets()
        self.stdout.write(f"{done} re-encrypted with the first key of FERNET_KEYS.")
        if unreadable:
            raise CommandError(
                f"No key of FERNET_KEYS decrypts the secret of: {', '.join(unreadable)}. "
                "Put the key that they were encrypted with back, or enter these secrets again."
            )
