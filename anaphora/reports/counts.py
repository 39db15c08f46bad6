"""The number of reports of dashboards and their latest, without reading all reports."""

from collections.abc import Collection
from datetime import datetime

from django.db.models import OuterRef, Subquery, Sum

from anaphora.reports.models import Dashboard, Report, ReportCount


def report_counts(dashboards: Collection[int]) -> dict[int, int]:
    """Return, for each dashboard, the number of its reports. Runs one query on stored counts; see `count_triggers`."""
    rows = ReportCount.objects.filter(dashboard__in=dashboards).order_by().values_list("dashboard")
    return dict.fromkeys(dashboards, 0) | dict(rows.annotate(Sum("reports")))


def dashboards_with_latest() -> list[tuple[int, str, str, datetime | None]]:
    """Return id, slug, title and the instant of the latest report of all dashboards, by slug; by an index."""
    newest = Report.objects.filter(dashboard=OuterRef("pk")).order_by("-rendered_at").values("rendered_at")[:1]
    return list(Dashboard.objects.order_by("slug").values_list("pk", "slug", "title", Subquery(newest)))
