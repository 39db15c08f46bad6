"""`manage.py rotate_fernet_keys`: re-encrypts every secret with the newest key."""

from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import signing
from anaphora.secret_fields import reencrypt_secrets


class Command(commands.Command):
    """Run this after adding a new key at the start of FERNET_KEYS. After it succeeds, you can remove the old keys."""

    help = "Re-encrypts every stored secret with the first key of FERNET_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            count, unreadable = reencrypt_secrets()
            keys, lost = signing.reencrypt()
            count, unreadable = count + keys, unreadable + lost
            record(Action.CHANGED, name="FERNET_KEYS", reencrypted=count, not_decrypted=len(unreadable))
        self.stdout.write(f"{count} re-encrypted with the first key of FERNET_KEYS.")
        if unreadable:
            raise CommandError(
                f"No key of FERNET_KEYS decrypts the secret of: {', '.join(unreadable)}. "
                "Add the key that encrypted them to FERNET_KEYS again, or enter these secrets again."
            )
