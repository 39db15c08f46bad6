"""`manage.py test_s3_interface`: the connection test of a saved interface."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from anaphora import commands
from delivery_s3 import interfaces
from delivery_s3.models import S3Interface


class Command(commands.Command):
    """The same test that the page runs, with the same record of its result."""

    help = "Tests a saved S3 interface with a real write and records the result. Exits 0 if it passes, 1 otherwise."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", metavar="NAME", help="the interface's name")
        parser.add_argument("--json", action="store_true", help="print the whole result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the test and print its steps."""
        interface = S3Interface.objects.filter(name=options["name"]).first()
        if interface is None:
            raise CommandError(f"There is no interface of the name {options['name']!r}.")
        report = interfaces.test_saved(interface)
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
        else:
            for step in report.steps:
                self.stdout.write(f"{step.outcome:8} {step.title:12} {step.seconds:7.3f} s  {step.text}")
                if step.detail:
                    self.stdout.write(f"{'':35}{step.detail}")
        if (diagnosis := report.diagnosis) is not None:
            raise CommandError(f"{diagnosis.title}. {diagnosis.meaning} {diagnosis.remedy}")
