"""`manage.py rebuild_index`: bring the index back from a bucket."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.deliveries import rebuild
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Interface
from anaphora.deliveries.rebuild_rows import Progress

EVERY = 10_000
"""Keys between two lines of progress where nobody watches."""


class Command(commands.Command):
    """Restores dashboards, reports and receipts, and lists what it can't make out."""

    help = "Brings dashboards, reports and receipts back from the manifests and objects of an interface's bucket."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("interface", metavar="INTERFACE", help="its name")
        parser.add_argument("--json", action="store_true", help="print one JSON object per unclear key, and a summary")

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore, and print the keys that cannot be used."""
        interface = Interface.objects.filter(name=options["interface"]).select_subclasses().first()
        if interface is None:
            raise CommandError(
                f"There is no interface named {options['interface']!r}. Set it up first, with the bucket, the "
                "key prefix and a key that may list and read."
            )
        progress, printed = Progress(), 0
        try:
            for progress in rebuild.rebuild(interface):
                for key, why in progress.unclear:
                    line = json.dumps({"key": key, "why": why}) if options["json"] else f"{key}  {why}"
                    self.stdout.write(commands.one_line(line))
                if self.stderr.isatty():
                    self.stderr.progress(_words(progress))
                elif progress.seen - printed >= EVERY:
                    printed = progress.seen
                    self.stderr.write(_words(progress))
        except DeliveryError as error:
            raise CommandError(
                f"{error.diagnosis.title}: {error.detail}. {error.diagnosis.remedy}{_needs(interface)} "
                f"So far: {_words(progress)}; run it again to continue."
            ) from error
        for remark in progress.remarks:
            self.stderr.write(commands.one_line(remark))
        counts = {name: getattr(progress, name) for name in ("seen", "restored", "known", "others")}
        self.stdout.write(json.dumps(counts) if options["json"] else _words(progress))


def _needs(interface: Interface) -> str:
    needed = [permission for permission in (interface.needed_to_list, interface.needed_to_read) if permission]
    return f" Rebuilding needs {' and '.join(needed)}." if needed else ""


def _words(progress: Progress) -> str:
    return (
        f"{progress.seen:,} keys: {progress.restored:,} restored, {progress.known:,} known, "
        f"{progress.others:,} manifests and tests, {progress.unclear_number:,} unclear"
    )
