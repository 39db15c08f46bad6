"""Builds the template context of the timeline pages."""

from collections import Counter
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, QuerySet, Subquery
from django.urls import reverse

from anaphora.admin_site import exact_size
from anaphora.deliveries import evidence, files, receipts
from anaphora.reports.content_types import PREVIEWABLE
from anaphora.reports.counts import report_counts
from anaphora.reports.models import Dashboard, Preview, Report
from anaphora.reports.timestamps import compact_instant
from anaphora.timeline import previews, queries, tables

MAX_PAGES = 50
"""Maximum number of PDF pages displayed on a page."""

MAX_SAME_INSTANT = 20


def report_url(report: Report, kind: str = "") -> str:
    """Return the URL of a report in the timeline, which stays its own if others are rendered at the same instant."""
    path = reverse("timeline-as-of", args=[report.dashboard.slug, compact_instant(report.rendered_at)])
    return f"{path}{query_string(type=kind, report=report.pk)}"


def as_of_url(dashboard: Dashboard, instant: datetime | None = None, kind: str = "") -> str:
    """Return the URL of a dashboard as of an instant, or of its latest report, optionally for one content type."""
    path = reverse("timeline-as-of", args=[dashboard.slug, compact_instant(instant)] if instant else [dashboard.slug])
    return f"{path}{query_string(type=kind)}"


def compare_url(dashboard: Dashboard, one: datetime, other: datetime, **more: str) -> str:
    """Return the URL that compares two instants of a dashboard."""
    path = reverse("timeline-compare", args=[dashboard.slug])
    return path + query_string(**{"from": compact_instant(one), "to": compact_instant(other), **more})


def query_string(**values: object) -> str:
    """Return a URL query string without empty values."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def format_label(content_type: str) -> str:
    """Return a short name of a content type, for example PDF."""
    known = {"spreadsheetml.sheet": "XLSX", "svg+xml": "SVG", "octet-stream": "file", "text/plain": "TXT"}
    ending = content_type.rpartition("/")[2]
    return next((name for type_, name in known.items() if content_type.endswith(type_)), ending.upper()[:8])


def navigation_context(
    dashboard: Dashboard,
    as_of: queries.AsOf,
    formats: dict[str, Report],
    calendar: queries.Calendar,
    kind: str,
    instant: datetime | None,
) -> dict[str, Any]:
    """Return the links to the neighbours of a report, to its other formats and to other years of the calendar."""
    previous, following = (
        as_of_url(dashboard, each.rendered_at, kind) if each else "" for each in (as_of.previous, as_of.next)
    )
    years = [query_string(type=kind, year=year) if year else "" for year in (calendar.previous, calendar.next)]
    links = [
        {
            "label": format_label(content_type),
            "url": as_of_url(dashboard, instant, content_type),
            "current": report == as_of.report,
        }
        for content_type, report in formats.items()
    ]
    return {"previous": previous, "next": following, "years": years, "formats": links}


def report_context(as_of: queries.AsOf, kind: str, *, may_read: bool) -> dict[str, Any]:
    """Return content, receipt, permanent link and comparison link of the report, or nothing without a report.

    Unless the user may read contents, the content is not read.
    """
    report = as_of.report
    if report is None:
        return {}
    context = (content_context(report) if may_read else {"unreadable": True}) | receipt_context(report)
    context["link"] = report_url(report, kind)
    if as_of.previous and may_read:
        instants = as_of.previous.rendered_at, report.rendered_at
        context["compare"] = compare_url(report.dashboard, *instants, type=kind)
    return context


def dashboard_cards(
    dashboards: QuerySet[Dashboard], number: int, instant: datetime | None = None
) -> list[dict[str, Any]]:
    """Return up to `number` dashboards with reports, the most recently rendered first, each with its latest report.

    The URLs lead to the dashboard as of `instant`, or to its latest report.
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
            "url": as_of_url(report.dashboard, instant),
            "label": format_label(report.content_type),
            "number": numbers[report.dashboard_id],
        }
        for report in latest
    ]


def film_strip(dashboard: Dashboard, instant: datetime, kind: str, current: Report | None) -> list[dict[str, Any]]:
    """Return the reports around an instant."""
    reports = queries.reports_around(dashboard, instant, kind)
    number = Counter(report.rendered_at for report in reports)
    for report in reports:
        report.dashboard = dashboard
    return [
        {
            "report": report,
            "url": (
                report_url(report, kind)
                if number[report.rendered_at] > 1
                else as_of_url(dashboard, report.rendered_at, kind)
            ),
            "current": report == current,
            "label": format_label(report.content_type),
        }
        for report in reports
    ]


def same_instant(report: Report, kind: str) -> list[dict[str, Any]]:
    """Return the reports that were rendered at the same instant, the last one ingested first; [] if it is the only one.

    Only the first MAX_SAME_INSTANT are returned.
    """
    reports = Report.objects.filter(dashboard=report.dashboard, rendered_at=report.rendered_at)
    reports = reports.filter(content_type=kind) if kind else reports
    found = list(reports.select_related("dashboard").order_by("-ingested_at")[:MAX_SAME_INSTANT])
    links = [{"report": each, "url": report_url(each, kind), "current": each == report} for each in found]
    return links if len(links) > 1 else []


def calendar_cells(
    calendar: queries.Calendar, dashboard: Dashboard, zone: ZoneInfo, kind: str, current: date | None
) -> Any:
    """Return the days as grid cells. Columns are weeks, rows are weekdays."""
    offset = calendar.days[0].date.weekday() if calendar.days else 0
    return [
        {
            "day": day,
            "column": (number + offset) // 7 + 1,
            "row": day.date.weekday() + 2,
            "month": day.date.day == 1,
            "level": min(day.reports, 3),
            "current": day.date == current,
            "url": as_of_url(dashboard, queries.end_of_day(day.date, zone), kind) if day.reports else "",
        }
        for number, day in enumerate(calendar.days)
    ]


def content_context(report: Report) -> dict[str, Any]:
    """Return how the content of a report is displayed, or why it is unavailable."""
    problem = files.problem(report)
    if problem:
        return {"unavailable": problem}
    if report.content_type == "application/pdf":
        if not report.pages and report.preview != Preview.NONE:
            previews.make_preview(report)
        last = min(report.pages, MAX_PAGES)
        return {"pages": range(1, last + 1), "rest": report.pages - last}
    if report.content_type in PREVIEWABLE:
        return {"image": True, "render_problem": _render_problem(report)}
    if report.content_type in tables.TABULAR:
        try:
            found, more = tables.read_tables(report)
            return {"tables": found, "more_sheets": more}
        except files.Unavailable as error:
            return {"unavailable": str(error)}
        except previews.RenderError as error:
            return {"no_table": str(error)}
    return {}


def _render_problem(report: Report) -> str:
    """Return why an image cannot be rendered, or an empty string if it can or the reason is unknown."""
    if report.preview == Preview.WAITING and report.local_path.exists():
        previews.make_preview(report)
    if report.preview != Preview.NONE:
        return ""
    try:
        previews.render_page(report, 1)
    except previews.RenderError as error:
        return "" if error.temporary else str(error)
    return ""


def receipt_context(report: Report) -> dict[str, Any]:
    """Return receipts, deliveries and file details of a report."""
    return {
        "stored_at": receipts.stored_at(report),
        "evidence": evidence.available(report),
        "deliveries": report.deliveries.select_related("interface").order_by("interface__name"),
        "local": report.local_path.exists(),
        "label": format_label(report.content_type),
        "exact_size": exact_size(report.size),
    }


def comparison_context(one: Report, other: Report, number: int, kind: str) -> dict[str, Any]:
    """Return two reports side by side with the changes on one page, or why they cannot be compared."""
    sides = [
        {"name": name, "report": report, "link": as_of_url(report.dashboard, report.rendered_at, kind)}
        for name, report in (("from", one), ("to", other))
    ]
    if one.content_type == other.content_type and one.content_type in tables.TABULAR:
        return _table_comparison(one, other, sides)
    try:
        found = previews.compare_pages(one, other, number)
        return {"comparison": found, "percent": round(100 * found.share), "pages": found.pages, "sides": sides}
    except previews.RenderError as error:
        return {"unavailable": str(error)}


def _table_comparison(one: Report, other: Report, sides: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the rows of two tables. Of workbooks, these are the first sheets."""
    empty = tables.Table([], [], complete=True)
    try:
        left, right = (next(iter(tables.read_tables(report)[0]), empty) for report in (one, other))
    except (files.Unavailable, previews.RenderError) as error:
        return {"unavailable": str(error)}
    for side, table, rows in zip(sides, (left, right), tables.mark_changes(left, right), strict=True):
        side["rows"], side["title"] = rows, table.title
    return {"tables": True, "sides": sides, "complete": left.complete and right.complete}
