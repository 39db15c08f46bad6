"""`manage.py backfill`: create the missing deliveries of a policy."""

import sys
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from anaphora import commands
from anaphora.activity import Action, record
from anaphora.deliveries import policies, tasks
from anaphora.deliveries.models import ArchivePolicy


class Command(commands.Command):
    """It only creates deliveries; workers or `deliver_due` deliver them, after new reports.

    It may be stopped and started again.
    """

    help = "Creates the missing deliveries of a policy, for the reports that came in before it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("policy", metavar="POLICY")
        parser.add_argument("--dry-run", action="store_true", help="only say how many reports and bytes there are")

    def handle(self, *args: Any, **options: Any) -> None:
        policy = ArchivePolicy.objects.filter(name=options["policy"]).select_related("interface").first()
        if policy is None:
            raise CommandError(f"There is no archive policy named {options['policy']!r}.")
        coverage = policies.coverage(policy)
        # Plain spaces, for pipes and old terminals.
        size = filesizeformat(coverage.missing_bytes).replace("\xa0", " ")
        self.stdout.write(f"{coverage.missing} reports, {size}, have no delivery to {policy.interface} yet.")
        if coverage.cancelled:
            self.stdout.write(f"{coverage.cancelled} cancelled deliveries become pending again.")
        if options["dry_run"]:
            return
        record(Action.BACKFILLED, policy)
        done, started = 0, time.monotonic()
        for number in policies.backfill(policy):
            done += number
            self._progress(done, coverage.backfilled, time.monotonic() - started)
        self.stdout.write(f"{done} deliveries created{' or pending again' if coverage.cancelled else ''}.")
        tasks.request_delivery(policy.interface_id)

    def _progress(self, done: int, total: int, seconds: float) -> None:
        if not sys.stderr.isatty():
            return
        share = min(done / max(total, 1), 1)
        left = seconds / share * (1 - share) if share else 0
        bar = "█" * int(share * 30)
        self.stderr.progress(f"{bar:30} {share:4.0%}, {left:.0f} s left ", last=share >= 1)
