"""`manage.py evidence`: the evidence for one report."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import evidence
from anaphora.reports.models import Report


class Command(commands.Command):
    """Writes a temporary file in the same folder and renames it, so that there is never an incomplete package."""

    help = "Writes the evidence for one report: a ZIP file with which others can verify the report independently."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("report", metavar="REPORT", help="the report's id, or its object's key")
        parser.add_argument("--output", metavar="FILE.zip", required=True, help="the file to write")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the evidence."""
        report, target = _report(options["report"]), Path(options["output"])
        try:
            with NamedTemporaryFile(dir=target.resolve().parent, prefix=".evidence-", delete=False) as file:
                try:
                    evidence.make(report, cast("BinaryIO", file))
                    record(Action.EVIDENCE, report)
                    os.replace(file.name, target)  # noqa: PTH105
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except evidence.NoEvidence as problem:
            raise CommandError(str(problem)) from problem
        except OSError as error:
            raise CommandError(f"{target} can't be written: {error.strerror}.") from error
        self.stdout.write(commands.one_line(f"{target}  {report}"))


def _report(name: str) -> Report:
    try:
        found = Report.objects.filter(pk=UUID(name))
    except ValueError:
        found = Report.objects.filter(deliveries__object_key=name)
    report = found.select_related("dashboard").first()
    if report is None:
        raise CommandError(f"There is no report {name!r}.")
    return report
