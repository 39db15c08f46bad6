"""The app, and its two ties to reports: it hears of new ones, and answers where one went."""

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db import transaction


class DeliveryS3Config(AppConfig):
    """The delivery interface "S3 Object Storage"."""

    name = "delivery_s3"
    verbose_name = "S3 Object Storage"

    def ready(self) -> None:
        """Connect to reports."""
        from anaphora.reports import archives
        from anaphora.reports.signals import report_ingested
        from delivery_s3 import checks, whereabouts

        register(checks.secrets_can_be_decrypted, Tags.database)
        report_ingested.connect(_on_report_ingested, dispatch_uid="delivery_s3")
        archives.register(whereabouts)


def _on_report_ingested(*, report: Any, **kwargs: Any) -> None:
    """Make the report's deliveries in the transaction that makes the report; call a worker once it holds."""
    from delivery_s3 import archiver, tasks

    for interface_id in archiver.plan(report):
        # Robust: the report is safe by then, and whatever fails in calling a worker is made up for by the sweep.
        transaction.on_commit(partial(tasks.request_delivery, interface_id), robust=True)
