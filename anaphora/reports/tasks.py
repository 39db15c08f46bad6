"""Celery's doors to reports."""

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from anaphora.reports import housekeeping, inbox, pictures
from anaphora.reports.models import Preview, Report

TURN_SECONDS = 20
"""How long one look into the inbox goes on, before other work has its turn."""

PREVIEW_SECONDS = 10
"""How often missing previews are looked for; half of it may be spent on them: deliveries have their turn."""


@shared_task(name="reports.scan_inbox")
def scan_inbox() -> None:
    """Take in what lies in the inbox; come back at once if that was not all."""
    if settings.INBOX_DIR and inbox.scan(seconds=TURN_SECONDS).unfinished:
        scan_inbox.apply_async(countdown=1)


@shared_task(name="reports.make_previews")
def make_previews() -> None:
    """Make the previews that are missing, for one turn; beat calls again."""
    pictures.make_previews(PREVIEW_SECONDS / 2)


@shared_task(name="reports.make_preview")
def make_preview(report_id: str) -> None:
    """Make the preview of one report that somebody looks at, fetched from its store where it must be."""
    report = Report.objects.filter(pk=report_id, preview=Preview.WAITING).select_related("dashboard").first()
    if report:
        pictures.make_preview(report)


@shared_task(name="reports.housekeeping")
def tidy() -> None:
    """Remove the local copies that are safely archived and whose days are over."""
    housekeeping.tidy(timezone.now())
