"""`manage.py rotate_signing_key`: sign with a new key from now on."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from anaphora import commands
from anaphora.deliveries import signing


class Command(commands.Command):
    """The next manifest of each interface, signed by the former key, announces the new one."""

    help = "Makes a new signing key. The next manifest of each interface announces it, signed by the former one."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, and print its public half."""
        if settings.SIGNING_KEY:
            raise CommandError(
                "The setting SIGNING_KEY names the key. Put a new one before it, in the same value, and restart: the "
                "first one signs, the others announce it."
            )
        self.stdout.write(signing.make_key().public_pem, ending="")
