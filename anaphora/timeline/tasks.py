"""Celery's doors to the timeline."""

from celery import shared_task

from anaphora.reports.models import Preview, Report
from anaphora.timeline import previews

PREVIEW_SECONDS = 10
"""How often missing previews are looked for; half of it may be spent on them: deliveries have their turn."""


@shared_task(name="timeline.make_previews")
def make_previews() -> None:
    """Make the previews that are missing, for one turn; beat calls again."""
    previews.make_previews(PREVIEW_SECONDS / 2)


@shared_task(name="timeline.make_preview")
def make_preview(report_id: str) -> None:
    """Make the preview of one report that somebody looks at, fetched from its store where it must be."""
    report = Report.objects.filter(pk=report_id, preview=Preview.WAITING).select_related("dashboard").first()
    if report:
        previews.make_preview(report)
