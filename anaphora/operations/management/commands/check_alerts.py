"""`manage.py check_alerts`: look whether an alert is due, and send it."""

from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from anaphora import commands
from anaphora.operations import alerts
from anaphora.operations.models import Alert, AlertChannel


class Command(commands.Command):
    """For a timer, so that an alert goes out even if neither a worker nor beat nor a web server runs."""

    help = "Checks what needs a hand, sends the alerts that are due, and prints those that are open."

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, send and print. Exits 1 if a channel fails."""
        alerts.check(timezone.now(), force=True)
        for alert in Alert.objects.filter(ended_at__isnull=True).order_by("began_at"):
            self.stdout.write(commands.one_line(f"{alert.began_at:%Y-%m-%dT%H:%M:%SZ}  {alert.title}"))
        failing = AlertChannel.objects.filter(enabled=True).exclude(error="")
        if failing:
            raise CommandError("; ".join(commands.one_line(f"Channel {each}: {each.error}") for each in failing))
