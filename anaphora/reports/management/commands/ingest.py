"""`manage.py ingest` ingests rendered files from disk or from standard input."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.reports.ingest import Batch, Ingested, IngestError


class Command(commands.Command):
    """Ingests every valid file. Prints an error for each other file and exits with status 1."""

    help = "Ingests rendered files as reports of a dashboard. Creates the dashboard if it does not exist."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="path of a rendered file, or - for standard input")
        parser.add_argument("--dashboard", required=True, metavar="SLUG", help="slug of the dashboard")
        parser.add_argument(
            "--rendered-at",
            type=_parse_instant,
            metavar="ISO8601",
            help="when the report was rendered, with time zone (default: the modification time of the file, "
            "or the current time for standard input)",
        )
        parser.add_argument("--filename", help="file name of the report from standard input")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def handle(self, *args: Any, **options: Any) -> None:
        if "-" in options["files"] and not options["filename"]:
            raise CommandError(
                "Standard input requires a file name. Add --filename, for example --filename report.pdf."
            )
        self._results: list[tuple[str, IngestError | None]] = []
        self._failed = 0
        with Batch() as batch:
            for name in options["files"]:
                try:
                    self._add(batch, name, options)
                    self._results.append((name, None))
                except IngestError as error:
                    self._results.append((name, error))
                if batch.full:
                    self._commit(batch, as_json=options["json"])
            self._commit(batch, as_json=options["json"])
        if self._failed:
            raise CommandError(f"{self._failed} of {len(options['files'])} not ingested.")

    def _commit(self, batch: Batch, *, as_json: bool) -> None:
        """Ingest what was added and print the results, in the order of the files."""
        problem = None
        try:
            ingested = iter(batch.commit())
        except IngestError as error:
            problem, ingested = error, iter(())
        for name, refused in self._results:
            if why := refused or problem:
                self._failed += 1
                self._print_error(name, why, as_json=as_json)
            else:
                self._print_report(next(ingested), as_json=as_json)
        self._results = []

    def _add(self, batch: Batch, name: str, options: dict[str, Any]) -> None:
        if name == "-":
            self._add_from(batch, sys.stdin.buffer, options["filename"], datetime.now(UTC), options)
            return
        try:
            with Path(name).open("rb") as source:
                modified = datetime.fromtimestamp(Path(name).stat().st_mtime, UTC)
                self._add_from(batch, source, name, modified, options)
        except OSError as error:
            raise IngestError("file", f"The file cannot be read: {error.strerror}.") from error

    def _add_from(self, batch: Batch, source: BinaryIO, name: str, default: datetime, options: dict[str, Any]) -> None:
        batch.add(
            source=source,
            filename=name,
            dashboard=options["dashboard"],
            rendered_at=options["rendered_at"] or default,
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
        status = "new" if result.created else "known"
        line = f"{status:5}  {report.pk}  {report}  {report.filename}"
        self.stdout.write(json.dumps(facts) if as_json else commands.one_line(line))

    def _print_error(self, name: str, error: IngestError, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"file": name, "error": str(error), "field": error.field}))
        else:
            self.stderr.write(commands.one_line(f"{name}: {error.field}: {error}"))


def _parse_instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date and time such as 2026-03-01T14:00:00+01:00"
        ) from error
