"""`manage.py write_manifests`: write and sign the manifests that are due."""

from datetime import UTC, date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from anaphora import commands
from anaphora.deliveries import manifests
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.signing import SigningProblem


class Command(commands.Command):
    """Does the same as beat does every hour, immediately and for all interfaces."""

    help = "Writes and signs the manifests that are due. Exits 1 if one could not be written."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--until", metavar="DATE", help="the last UTC day, such as 2026-03-01; default: the last one that is over"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the manifests, and print the key of each."""
        now = timezone.now()
        until = _day(options["until"], now.astimezone(UTC).date()) if options["until"] else manifests.last_day(now)
        problems = []
        for interface in manifests.interfaces_in_use():
            try:
                written = False
                for manifest in manifests.write(interface, until=until, now=now):
                    self.stdout.write(commands.one_line(f"{interface}  {manifest.key}"))
                    written = True
                if options["until"] and not written and (last := interface.manifests.order_by("sequence").last()):
                    text = (
                        f"{interface}: no manifest is due. The last one is of {last.day}; what was delivered since is "
                        "listed in the next one."
                    )
                    self.stderr.write(commands.one_line(text))
            except DeliveryError as error:
                problems.append(f"{interface}: {error.diagnosis.title}. {error.detail} {error.diagnosis.remedy}")
            except SigningProblem as problem:
                problems.append(f"{interface}: {problem}")
        if problems:
            raise CommandError("\n".join(problems))


def _day(text: str, today: date) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a date such as 2026-03-01.") from None
    if day > today:
        raise CommandError(f"{text} is in the future. The last day that can have a manifest is today in UTC, {today}.")
    return day
