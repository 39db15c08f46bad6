"""What was rendered: dashboards and their reports."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    """The app of dashboards and reports. It never imports a delivery app; it asks them through `archives`."""

    name = "anaphora.reports"
    verbose_name = "Reports"
