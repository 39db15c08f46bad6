"""Celery tasks of the timeline."""

from celery import shared_task

from anaphora.reports.models import Preview, Report
from anaphora.timeline import previews

PREVIEW_SECONDS = 10
"""Interval of the task. It runs for at most half of this time, so that deliveries are not delayed."""


@shared_task(name="timeline.make_previews")
def make_previews() -> None:
    """Create missing previews for up to half of PREVIEW_SECONDS."""
    previews.make_previews(PREVIEW_SECONDS / 2)


@shared_task(name="timeline.make_preview")
def make_preview(report_id: str) -> None:
    """Create the preview of a report that a user views. Fetches the file from its store if there is no local copy."""
    report = Report.objects.filter(pk=report_id, preview=Preview.WAITING).select_related("dashboard").first()
    if report:
        previews.make_preview(report)
