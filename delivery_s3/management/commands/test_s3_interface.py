"""`manage.py test_s3_interface`: runs the connection test of a saved interface."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from delivery_s3.connection_test import services
from delivery_s3.models import S3Interface


class Command(commands.Command):
    """Runs the same test as the page and records the result in the same way."""

    help = "Tests a saved S3 interface with a real write and records the result. Exits 0 if it passes, 1 otherwise."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the interface's name")
        parser.add_argument("--json", action="store_true", help="print the whole result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        interface = S3Interface.objects.filter(name=options["name"]).first()
        if interface is None:
            raise CommandError(f"There is no S3 interface with the name {options['name']!r}.")
        report = services.test_and_record(interface)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
        else:
            for step in report.steps:
                self.stdout.write(f"{step.outcome:8} {step.title:12} {step.seconds:7.3f} s  {step.text}")
                if step.detail:
                    self.stdout.write(f"{'':35}{step.detail}")
        if (diagnosis := report.diagnosis) is not None:
            raise CommandError(f"{diagnosis.title}. {diagnosis.meaning} {diagnosis.remedy}")
