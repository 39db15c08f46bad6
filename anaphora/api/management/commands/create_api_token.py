"""`manage.py create_api_token` creates an API token."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from anaphora import commands
from anaphora.api import tokens
from anaphora.api.models import Scope


class Command(commands.Command):
    """Prints the token as the last word of the output. It cannot be retrieved again."""

    help = "Creates an API token and prints it once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="who will use it")
        parser.add_argument("--scope", action="append", choices=Scope.values, required=True, help="can be repeated")
        parser.add_argument("--days", type=int, help="days until the token expires (default: never)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] is not None and not 0 < options["days"] <= 36_500:
            raise CommandError("--days must be from 1 to 36,500. Omit it for a token that never expires.")
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        scopes = [Scope(scope) for scope in dict.fromkeys(options["scope"])]
        token, plain = tokens.create(options["name"], scopes, expires_at)
        self.stdout.write(f"Token {token} for {', '.join(scopes)}: {plain}")
