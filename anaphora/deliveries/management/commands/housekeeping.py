"""`manage.py housekeeping`: remove local copies that are safely archived."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from anaphora import commands
from anaphora.admin_site import count_noun
from anaphora.deliveries import housekeeping


class Command(commands.Command):
    """Beat does the same every hour."""

    help = (
        "Removes local copies that are safely archived and older than the number of days that their dashboard allows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        done = housekeeping.run_housekeeping(timezone.now(), dry_run=options["dry_run"])
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
            return
        copies = "copy" if done.reports == 1 else "copies"
        verb = "would be removed" if options["dry_run"] else "removed"
        size = filesizeformat(done.bytes).replace("\xa0", " ")
        self.stdout.write(
            f"{done.reports} local {copies}, {size}, {verb}; {done.unsafe} kept, not safely archived for long enough."
        )
        if done.orphans:
            self.stdout.write(f"{count_noun(done.orphans, 'file', 'files')} without a report {verb}.")
