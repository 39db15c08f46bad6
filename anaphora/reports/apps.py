"""The app config of reports."""

from django.apps import AppConfig
from django.core.checks import register
from django.db.models.signals import post_migrate


class ReportsConfig(AppConfig):
    """The app of dashboards and reports. It does not depend on deliveries."""

    name = "anaphora.reports"
    verbose_name = "Reports"

    def ready(self) -> None:
        """Register the checks, and the triggers that are created after migrations."""
        from anaphora.reports import checks, count_triggers

        register(checks.local_store_can_be_written)
        post_migrate.connect(count_triggers.install, sender=self, dispatch_uid="reports.count_triggers")
