"""`manage.py ingest`: take rendered files in from the disk or from standard input."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.reports.ingest import Ingested, IngestError, ingest


class Command(commands.Command):
    """Takes every file that it can; those that it can't are named, and make the exit status 1."""

    help = "Takes rendered files in as reports of a dashboard, which is created if need be."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="a rendered file; - reads standard input")
        parser.add_argument("--dashboard", required=True, metavar="SLUG", help="the dashboard that the files depict")
        parser.add_argument(
            "--rendered-at",
            type=_instant,
            metavar="ISO8601",
            help="when it was rendered, with a time zone; without it the file's modification time counts, "
            "and for standard input the present",
        )
        parser.add_argument("--filename", help="the name of what comes from standard input")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Take the files in, one after the other, and print a line for each."""
        if "-" in options["files"] and not options["filename"]:
            raise CommandError("What comes from standard input needs a name: add --filename report.pdf")
        failed = 0
        for name in options["files"]:
            try:
                result = self._ingest(name, options)
            except IngestError as error:
                failed += 1
                self._print_error(name, error, as_json=options["json"])
            else:
                self._print_report(result, as_json=options["json"])
        if failed:
            raise CommandError(f"{failed} of {len(options['files'])} not taken in.")

    def _ingest(self, name: str, options: dict[str, Any]) -> Ingested:
        if name == "-":
            return self._ingest_from(sys.stdin.buffer, options["filename"], datetime.now(UTC), options)
        try:
            with Path(name).open("rb") as source:
                modified = datetime.fromtimestamp(Path(name).stat().st_mtime, UTC)
                return self._ingest_from(source, name, modified, options)
        except OSError as error:
            raise IngestError("file", f"The file can't be read: {error.strerror}.") from error

    def _ingest_from(self, source: BinaryIO, name: str, moment: datetime, options: dict[str, Any]) -> Ingested:
        return ingest(
            source=source,
            filename=name,
            dashboard=options["dashboard"],
            rendered_at=options["rendered_at"] or moment,
        )

    def _print_report(self, result: Ingested, *, as_json: bool) -> None:
        report = result.report
        facts = {
            "id": str(report.pk),
            "created": result.created,
            "dashboard": report.dashboard.slug,
            "rendered_at": report.rendered_at.isoformat(),
            "filename": report.filename,
            "size": report.size,
            "sha256": report.sha256,
        }
        word = "new" if result.created else "known"
        line = f"{word:5}  {report.pk}  {report}  {report.filename}"
        self.stdout.write(json.dumps(facts) if as_json else commands.one_line(line))

    def _print_error(self, name: str, error: IngestError, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"file": name, "error": str(error), "field": error.field}))
        else:
            self.stderr.write(commands.one_line(f"{name}: {error.field}: {error}"))


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date and time such as 2026-03-01T14:00:00+01:00"
        ) from error
