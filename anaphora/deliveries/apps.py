"""Where reports go."""

from typing import Any

from django.apps import AppConfig
from django.db import transaction


class DeliveriesConfig(AppConfig):
    """Where reports go, whatever the kind of destination."""

    name = "anaphora.deliveries"
    verbose_name = "Deliveries"

    def ready(self) -> None:
        """Hear of new reports, and answer where they are."""
        from anaphora.deliveries import archives, receipts
        from anaphora.reports.signals import report_ingested

        report_ingested.connect(_on_report_ingested, dispatch_uid="deliveries")
        archives.register(receipts)


def _on_report_ingested(*, report: Any, **kwargs: Any) -> None:
    """Make the report's deliveries in the transaction that makes the report; call a worker once it holds."""
    from anaphora.deliveries import engine, tasks

    wanted = engine.plan(report)

    def call_worker() -> None:
        for interface_id in wanted:
            tasks.request_delivery(interface_id)

    if wanted:
        # Robust: the report is safe by then, and whatever fails in calling a worker is made up for by the sweep. No
        # partial(): Django logs the name of what failed, and a partial has none.
        transaction.on_commit(call_worker, robust=True)
