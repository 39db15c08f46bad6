"""`manage.py as_of` shows the report of a dashboard as of an instant."""

import json
import shutil
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import files
from anaphora.reports.models import Dashboard, Report
from anaphora.timeline import queries


class Command(commands.Command):
    """Prints the report that was current. Optionally writes its file, from the local copy or from a store."""

    help = "Shows the latest report of a dashboard at or before an instant."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dashboard", metavar="SLUG")
        parser.add_argument(
            "when", metavar="WHEN", help="ISO 8601; the default zone is TIME_ZONE, a date means the end of the day"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--output", metavar="FILE", help="write the report file to FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        dashboard = Dashboard.objects.filter(slug=options["dashboard"]).first()
        if dashboard is None:
            raise CommandError(f"There is no dashboard {options['dashboard']!r}.")
        try:
            found = queries.as_of(dashboard, queries.parse_instant(options["when"], ZoneInfo(settings.TIME_ZONE)))
        except queries.InvalidInstant as error:
            raise CommandError(str(error)) from error
        if found.report is None:
            raise CommandError(f"There is no report of {dashboard.slug} at or before {found.instant.isoformat()}.")
        if options["output"]:
            _write(found.report, Path(options["output"]))
        self._print(found.report, found.next, as_json=options["json"])

    def _print(self, report: Report, following: Report | None, *, as_json: bool) -> None:
        if as_json:
            facts = {
                "id": str(report.pk),
                "dashboard": report.dashboard.slug,
                "rendered_at": report.rendered_at.isoformat(),
                "filename": report.filename,
                "content_type": report.content_type,
                "size": report.size,
                "sha256": report.sha256,
                "next_rendered_at": following.rendered_at.isoformat() if following else None,
            }
            self.stdout.write(json.dumps(facts))
            return
        until = f", until {following.rendered_at:%Y-%m-%d %H:%M:%S} UTC" if following else ", the latest"
        self.stdout.write(commands.one_line(f"{report.pk}  {report}{until}  {report.filename}"))


def _write(report: Report, target: Path) -> None:
    try:
        with files.opened(report) as source, target.open("wb") as file:
            record(Action.DOWNLOADED, report)
            shutil.copyfileobj(source, file)
    except files.Unavailable as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"Cannot write to {target}: {error.strerror}.") from error
