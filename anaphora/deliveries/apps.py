"""The app config of deliveries."""

from typing import Any

from django.apps import AppConfig
from django.db import transaction


class DeliveriesConfig(AppConfig):
    """The app of interfaces, policies and deliveries, for every kind of destination."""

    name = "anaphora.deliveries"
    verbose_name = "Deliveries"

    def ready(self) -> None:
        """Connect to the signal of new reports."""
        from anaphora.reports.signals import report_ingested

        report_ingested.connect(_on_report_ingested, dispatch_uid="deliveries")


def _on_report_ingested(*, reports: Any, **kwargs: Any) -> None:
    """Create the deliveries in the transaction that creates the reports; wake a worker once it is committed."""
    from anaphora.deliveries import policies, tasks

    wanted = policies.create_for_new(*reports)

    def wake_worker() -> None:
        for interface_id in wanted:
            tasks.request_delivery(interface_id)

    if wanted:
        # Robust: the reports are committed by then, and the sweep sends a message that failed again. A function
        # instead of a partial(): Django logs the name of a function that fails, and a partial has none.
        transaction.on_commit(wake_worker, robust=True)
