"""Celery tasks of `reports`."""

from celery import shared_task
from django.conf import settings

from anaphora.reports import inbox

MAX_SCAN_SECONDS = 20
"""Time limit of one scan of the inbox, so that other tasks can run."""


@shared_task(name="reports.scan_inbox")
def scan_inbox() -> None:
    """Ingest the files in the inbox. If files are left, schedule the task again."""
    if settings.INBOX_DIR and inbox.scan(seconds=MAX_SCAN_SECONDS).unfinished:
        scan_inbox.apply_async(countdown=1)
