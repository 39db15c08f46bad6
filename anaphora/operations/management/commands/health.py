"""`manage.py health`: check that a process runs on this machine, for containers and service managers."""

import time
import urllib.error
import urllib.request
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from anaphora import commands
from anaphora.deliveries.models import Role
from anaphora.operations import health


class Command(commands.Command):
    """`web` requests /healthz/live from the web server; `worker` and `beat` need a recent heartbeat of this machine."""

    help = "Exits 0 if a process of the role runs on this machine, 1 otherwise."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=Role.values)
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help="URL of the web server; default: %(default)s"
        )
        parser.add_argument("--wait", type=int, default=0, metavar="SECONDS", help="how long to wait for it to start")

    def handle(self, *args: Any, **options: Any) -> None:
        """Repeat the check until it passes or the time is over."""
        end = time.monotonic() + options["wait"]
        while not self._runs(options["role"], options["url"]):
            if time.monotonic() >= end:
                raise CommandError(f"The {options['role']} does not run, or does not answer.")
            time.sleep(1)
        self.stdout.write(f"The {options['role']} runs.")

    def _runs(self, role: str, url: str) -> bool:
        if role == Role.WEB:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(f"{url}/healthz/live", timeout=5) as answer:
                    return bool(answer.status == 200)
            except (OSError, urllib.error.URLError):
                return False
        try:
            return health.seen_here(Role(role))
        except DatabaseError:
            return False
