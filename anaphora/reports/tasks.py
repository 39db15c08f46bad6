"""Celery's doors to reports."""

from celery import shared_task
from django.conf import settings

from anaphora.reports import inbox

TURN_SECONDS = 20
"""How long one look into the inbox goes on, before other work has its turn."""


@shared_task(name="reports.scan_inbox")
def scan_inbox() -> None:
    """Take in what lies in the inbox; come back at once if that was not all."""
    if settings.INBOX_DIR and inbox.scan(seconds=TURN_SECONDS).unfinished:
        scan_inbox.apply_async(countdown=1)
