"""The app config of reports."""

from django.apps import AppConfig
from django.core.checks import register


class ReportsConfig(AppConfig):
    """The app of dashboards and reports. It does not depend on deliveries."""

    name = "anaphora.reports"
    verbose_name = "Reports"

    def ready(self) -> None:
        from anaphora.reports import checks

        register(checks.local_store_can_be_written)
