"""`manage.py rotate_signing_key`: sign with a new key from now on."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import signing


class Command(commands.Command):
    """The next manifest of each interface is signed by the former key and announces the new one."""

    help = (
        "Creates a new signing key. The next manifest of each interface is signed by the former key and announces it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the key and print its public key."""
        if settings.SIGNING_KEY:
            raise CommandError(
                "The key comes from the setting SIGNING_KEY. Put a new key before it, in the same value, and restart: "
                "the first key signs, and the former one announces it."
            )
        with transaction.atomic():
            key = signing.make_key()
            record(Action.CHANGED, name="signing key", fingerprint=key.fingerprint)
        self.stdout.write(key.public_pem, ending="")
