"""`manage.py check_alerts`: send the alerts that are due."""

from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from anaphora import commands
from anaphora.operations import alerts
from anaphora.operations.models import Alert, AlertChannel


class Command(commands.Command):
    """Run it by a timer, so that alerts are sent even if no worker, beat or web server runs."""

    help = "Checks for problems, sends the alerts that are due, and prints the open ones."

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, send and print. Exits 1 if a channel fails."""
        alerts.check(timezone.now(), force=True)
        for alert in Alert.objects.filter(ended_at__isnull=True).order_by("began_at"):
            self.stdout.write(commands.one_line(f"{alert.began_at:%Y-%m-%dT%H:%M:%SZ}  {alert.title}"))
        failing = AlertChannel.objects.filter(enabled=True).exclude(error="")
        if failing:
            raise CommandError("; ".join(commands.one_line(f"Channel {each}: {each.error}") for each in failing))
