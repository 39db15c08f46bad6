"""What the timeline's templates are told: addresses, labels, the calendar as a grid, what is shown in place."""

from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, QuerySet, Subquery
from django.urls import reverse

from anaphora.admin_site import exact_size
from anaphora.deliveries import evidence, files, receipts
from anaphora.reports.content_types import DRAWN
from anaphora.reports.counts import report_counts
from anaphora.reports.models import Dashboard, Preview, Report
from anaphora.reports.timestamps import stamp
from anaphora.timeline import csv_preview, previews, queries

MOST_PAGES = 50
"""Pages of a PDF that are shown in place."""


def address(dashboard: Dashboard, when: datetime | None = None, kind: str = "") -> str:
    """Return where a dashboard is shown as it was then, or is now, in one format or any."""
    path = reverse("timeline-then", args=[dashboard.slug, stamp(when)] if when else [dashboard.slug])
    return f"{path}{query(type=kind)}"


def compare_address(dashboard: Dashboard, one: datetime, other: datetime, **more: str) -> str:
    """Return where two instants of a dashboard are compared."""
    path = reverse("timeline-compare", args=[dashboard.slug])
    return path + query(**{"from": stamp(one), "to": stamp(other), **more})


def query(**values: object) -> str:
    """Return the query of an address, without what is empty."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def label(content_type: str) -> str:
    """Return what people call a content type."""
    known = {"spreadsheetml.sheet": "XLSX", "svg+xml": "SVG", "octet-stream": "file"}
    ending = content_type.rpartition("/")[2]
    return next((name for type_, name in known.items() if ending.endswith(type_)), ending.upper()[:8])


def cards(dashboards: QuerySet[Dashboard], number: int, when: datetime | None = None) -> list[dict[str, Any]]:
    """Return up to so many dashboards that have reports, those with the latest first, each with that one.

    Each leads to what it looked like at `when`, or looks like now.
    """
    of_each = Report.objects.filter(dashboard=OuterRef("pk")).order_by("-rendered_at", "-ingested_at").values("pk")[:1]
    found = dashboards.annotate(latest=Subquery(of_each)).exclude(latest=None)
    reports = Report.objects.filter(pk__in=found.order_by().values("latest")).select_related("dashboard")
    latest = list(reports.order_by("-rendered_at", "dashboard__slug")[:number])
    numbers = report_counts([report.dashboard_id for report in latest])
    return [
        {
            "report": report,
            "dashboard": report.dashboard,
            "address": address(report.dashboard, when),
            "label": label(report.content_type),
            "number": numbers[report.dashboard_id],
        }
        for report in latest
    ]


def strip(dashboard: Dashboard, when: datetime, kind: str, current: Report | None) -> list[dict[str, Any]]:
    """Return the film strip around an instant."""
    return [
        {
            "report": report,
            "address": address(dashboard, report.rendered_at, kind),
            "current": report == current,
            "label": label(report.content_type),
        }
        for report in queries.around(dashboard, when, kind)
    ]


def days(calendar: queries.Calendar, dashboard: Dashboard, zone: ZoneInfo, kind: str, current: date | None) -> Any:
    """Return the days as cells of a grid whose columns are weeks and whose rows are weekdays."""
    offset = calendar.days[0].date.weekday() if calendar.days else 0
    return [
        {
            "day": day,
            "column": (number + offset) // 7 + 1,
            "row": day.date.weekday() + 2,
            "month": day.date.day == 1,
            "level": min(day.reports, 3),
            "current": day.date == current,
            "address": address(dashboard, queries.end_of(day.date, zone), kind) if day.reports else "",
        }
        for number, day in enumerate(calendar.days)
    ]


def shown(report: Report) -> dict[str, Any]:
    """Return how a report is shown in place, or why it isn't."""
    problem = files.problem(report)
    if problem:
        return {"refusal": problem}
    if report.content_type == "application/pdf":
        if not report.pages and report.preview != Preview.NONE:
            previews.make_preview(report)
        last = min(report.pages, MOST_PAGES)
        return {"pages": range(1, last + 1), "rest": report.pages - last}
    if report.content_type in DRAWN:
        return {"image": True, "damage": _damage(report)}
    if report.content_type == "text/csv":
        try:
            return {"table": csv_preview.table(report)}
        except files.Unavailable as error:
            return {"refusal": str(error)}
    return {}


def _damage(report: Report) -> str:
    """Return why a picture can't be drawn; empty if it can, or if that isn't known. Browsers show nothing instead."""
    if report.preview == Preview.WAITING and report.local_path.exists():
        previews.make_preview(report)
    if report.preview != Preview.NONE:
        return ""
    try:
        previews.page(report, 1)
    except previews.NoPicture as error:
        return "" if error.passes else str(error)
    return ""


def receipt(report: Report) -> dict[str, Any]:
    """Return what is known of a report for somebody who audits."""
    return {
        "stored_at": receipts.stored_at(report),
        "evidence": evidence.available(report),
        "deliveries": report.deliveries.select_related("interface").order_by("interface__name"),
        "local": report.local_path.exists(),
        "label": label(report.content_type),
        "exact_size": exact_size(report.size),
    }


def compared(one: Report, other: Report, number: int, kind: str) -> dict[str, Any]:
    """Return two reports beside each other, a page of them by number, and what changed or why that can't be told."""
    sides = [
        {"name": name, "report": report, "link": address(report.dashboard, report.rendered_at, kind)}
        for name, report in (("from", one), ("to", other))
    ]
    if one.content_type == other.content_type == "text/csv":
        try:
            left, right = csv_preview.table(one), csv_preview.table(other)
        except files.Unavailable as error:
            return {"refusal": str(error)}
        for side, rows in zip(sides, csv_preview.marked(left, right), strict=True):
            side["rows"] = rows
        return {"tables": True, "sides": sides}
    try:
        found = previews.compare(one, other, number)
        return {"comparison": found, "percent": round(100 * found.share), "pages": found.pages, "sides": sides}
    except previews.NoPicture as error:
        return {"refusal": str(error)}
