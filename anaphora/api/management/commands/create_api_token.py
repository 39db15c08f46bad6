"""`manage.py create_api_token`: make a token for the API."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from anaphora import commands
from anaphora.api import tokens
from anaphora.api.models import Scope


class Command(commands.Command):
    """The token is the last word of the output, and can't be had again."""

    help = "Makes a token for the API and prints it, once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", metavar="NAME", help="who will use it")
        parser.add_argument("--scope", action="append", choices=Scope.values, required=True, help="may be given twice")
        parser.add_argument("--days", type=int, help="for how many days it is good; without it for ever")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make and print it."""
        if options["days"] is not None and not 0 < options["days"] <= 36_500:
            raise CommandError("Name 1 to 36,500 days, or leave --days out for a token that never expires.")
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        scopes = [Scope(scope) for scope in dict.fromkeys(options["scope"])]
        token, plain = tokens.create(options["name"], scopes, expires_at)
        self.stdout.write(f"Token {token} for {', '.join(scopes)}: {plain}")
