"""`manage.py public_key`: the key with which others verify the archive."""

from typing import Any

from django.core.management.base import CommandError

from anaphora import commands
from anaphora.deliveries import signing


class Command(commands.Command):
    """Prints PEM and nothing else, so that it can go into a file."""

    help = "Prints the archive's public key (PEM)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key; create it if there is none yet."""
        try:
            key = signing.current()
        except signing.SigningProblem as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(key.public_pem, ending="")
