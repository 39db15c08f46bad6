"""The pages of the timeline: a dashboard as of an instant, and the comparison of two instants.

The views check their input, call one function and render the result. Pages show times in the time zone of the viewer.
URLs contain UTC, so that a link means the same for all users.
"""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required, permission_required
from django.core.cache import cache
from django.db.models import Q, QuerySet
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from anaphora.activity import AN_HOUR, Action, record
from anaphora.deliveries import evidence, file_response, files
from anaphora.reports.models import READ, Dashboard, Preview, Report
from anaphora.reports.timestamps import compact_instant, parse_compact_instant
from anaphora.timeline import previews, queries, tasks, view_context

logger = logging.getLogger(__name__)

MAX_CARDS = 24
"""Maximum number of dashboards on the start page of the timeline."""

MAX_SUGGESTIONS = 20
"""Maximum number of dashboards suggested while the user types."""


def viewer(view: Any) -> Any:
    """Require login and the permission to view reports."""
    return require_safe(login_required(permission_required("reports.view_report", raise_exception=True)(view)))


def reader(view: Any) -> Any:
    """Require login and the permissions to view reports and to read their contents."""
    return viewer(permission_required(READ, raise_exception=True)(view))


@viewer
def index(request: HttpRequest) -> HttpResponse:
    """List dashboards. With `dashboard`, and optionally `date` and `time`, redirect to the dashboard as of then."""
    search = request.GET.get("dashboard", "").strip().replace("\0", "")
    problem, when = "", None
    if search:
        try:
            when = _requested_instant(request)
        except queries.InvalidInstant as error:
            problem = str(error)
        dashboard = _find_dashboard(search)
        if dashboard and not problem:
            return redirect(view_context.as_of_url(dashboard, when))
        if not dashboard and not problem:
            several = _matching(search).exists()
            problem = f"Several dashboards match {search!r}. Select one." if several else ""
            problem = problem or f"No dashboard matches {search!r}."
    cards = view_context.dashboard_cards(_matching(search if problem else ""), MAX_CARDS + 1, when)
    return _page(
        request,
        "index.html",
        title="Timeline",
        cards=cards[:MAX_CARDS],
        more=len(cards) > MAX_CARDS,
        problem=problem,
        search=search,
        when=timezone.localtime(when, _zone(request)) if when else None,
    )


@viewer
def dashboards(request: HttpRequest) -> HttpResponse:
    """Return the dashboards whose slug or title contains `q` as JSON."""
    found = _matching(request.GET.get("q", ""))[:MAX_SUGGESTIONS]
    return JsonResponse({"dashboards": [{"slug": row.slug, "title": row.title} for row in found]})


@viewer
def as_of_page(request: HttpRequest, slug: str, instant: str = "") -> HttpResponse:
    """Show the report of a dashboard as of an instant. Without an instant, show the latest report.

    If the dashboard has reports of several formats, the page and its links show one of them. The parameter `report`
    selects one of several reports of the instant.
    """
    dashboard = get_object_or_404(Dashboard, slug=slug)
    chosen = _chosen_report(dashboard, request.GET.get("report", ""))
    asked = _parse_instant(instant) if instant else None
    asked = chosen.rendered_at if chosen else asked
    at = asked or timezone.now()
    kind = request.GET.get("type", "").replace("\0", "")
    formats = queries.latest_by_format(dashboard, at)
    if not kind and len(formats) > 1:
        latest = max(formats.values(), key=lambda report: (report.rendered_at, report.ingested_at))
        kind = (chosen or latest).content_type
    as_of = queries.as_of(dashboard, at, kind)
    if chosen:
        as_of = replace(as_of, report=chosen)
    current, zone = as_of.report.rendered_at if as_of.report else at, _zone(request)
    may_read = request.user.has_perm(READ)
    if may_read and as_of.report:
        record(Action.VIEWED, as_of.report, once=AN_HOUR)
    day = current.astimezone(zone).date()
    calendar = queries.calendar(dashboard, _positive_number(request.GET.get("year", ""), day.year), zone)
    return _page(
        request,
        "as_of.html",
        title=str(dashboard),
        dashboard=dashboard,
        when=asked,
        instant=at,
        as_of=as_of,
        kind=kind,
        calendar=calendar,
        days=view_context.calendar_cells(calendar, dashboard, zone, kind, day if as_of.report else None),
        strip=view_context.film_strip(dashboard, current, kind, as_of.report),
        same_instant=view_context.same_instant(as_of.report, kind) if as_of.report else [],
        **view_context.navigation_context(dashboard, as_of, formats, calendar, kind, asked),
        **view_context.report_context(as_of, kind, may_read=may_read),
    )


@viewer
def compare(request: HttpRequest, slug: str) -> HttpResponse:
    """Compare the reports of a dashboard as of two instants.

    Instants entered in another format redirect to the URL with instants in UTC. Without the permission to read
    contents, the page says so.
    """
    dashboard = get_object_or_404(Dashboard, slug=slug)
    asked = [request.GET.get(name, "") for name in ("from", "to")]
    kind, number = request.GET.get("type", "").replace("\0", ""), _positive_number(request.GET.get("page", ""), 1)
    context: dict[str, Any] = {"dashboard": dashboard, "title": f"{dashboard}: compare", "kind": kind, "asked": asked}
    try:
        one, other = (queries.parse_instant(text, _zone(request)) if text else timezone.now() for text in asked)
    except queries.InvalidInstant as error:
        return _page(request, "compare.html", problem=str(error), **context)
    if asked != [compact_instant(one), compact_instant(other)]:
        return redirect(view_context.compare_url(dashboard, one, other, type=kind))
    reports = [queries.as_of(dashboard, each, kind).report for each in (one, other)]
    if reports[0] is None or reports[1] is None:
        problem = "There is no report at or before one of the two instants."
        return _page(request, "compare.html", problem=problem, **context)
    if not request.user.has_perm(READ):
        return _page(request, "compare.html", one=reports[0], other=reports[1], unreadable=True, **context)
    record(Action.VIEWED, *dict.fromkeys(each for each in reports if each), once=AN_HOUR)
    context |= view_context.comparison_context(reports[0], reports[1], number, kind)
    pages = [page for page in (number - 1, number + 1) if 1 <= page <= context.get("pages", 0)]
    page_urls = {page: view_context.compare_url(dashboard, one, other, type=kind, page=str(page)) for page in pages}
    return _page(
        request,
        "compare.html",
        one=reports[0],
        other=reports[1],
        number=number,
        earlier=page_urls.get(number - 1, ""),
        later=page_urls.get(number + 1, ""),
        **context,
    )


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Redirect staff to the admin and other users to the timeline."""
    return redirect("admin:index" if request.user.is_staff else "timeline")


# The file and the images of a report.


@reader
def file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Return the file of a report, from the local copy or from a store."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    try:
        return file_response.response(report, request)
    except files.Unavailable as error:
        return HttpResponse(str(error), status=404, content_type="text/plain; charset=utf-8")


@reader
def evidence_file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Return the evidence of a report as a ZIP file."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    try:
        return file_response.evidence_response(report)
    except evidence.NoEvidence as problem:
        return HttpResponse(str(problem), status=404, content_type="text/plain; charset=utf-8")


@reader
def preview(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Return the preview of a report. If it does not exist yet, request its creation and return 404."""
    report = get_object_or_404(Report, pk=pk)
    try:
        image = report.preview_path.open("rb")
    except OSError:
        if report.previewable:
            _request_preview(report)
        return HttpResponse(status=404, headers={"Cache-Control": "no-store"})
    try:
        record(Action.PREVIEWED, report, once=AN_HOUR)
    except BaseException:
        image.close()
        raise
    return FileResponse(image, content_type="image/webp", headers={"Cache-Control": "private, max-age=86400"})


@reader
def page(request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
    """Return the image of one page of a report."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    etag = f'"{report.sha256}-{number}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable"}
    if not_modified := get_conditional_response(request, etag=etag):
        return not_modified
    try:
        rendered = previews.render_page(report, number)
    except previews.RenderError as error:
        return HttpResponse(str(error), status=404, content_type="text/plain; charset=utf-8")
    record(Action.VIEWED, report, once=AN_HOUR)
    return HttpResponse(rendered.image, content_type="image/webp", headers=headers)


def _request_preview(report: Report) -> None:
    if cache.add(f"preview-{report.pk}", 1, 60):  # at most one task per minute
        Report.objects.filter(pk=report.pk).update(preview=Preview.WAITING)
        try:
            tasks.make_preview.delay(str(report.pk))
        except Exception as error:  # each broker transport raises its own exceptions
            logger.warning(
                "The broker does not accept messages (%s). The preview is requested again at the next view.", error
            )
            cache.delete(f"preview-{report.pk}")


# Parsing and template context.


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    zone = _zone(request)
    with timezone.override(zone):
        return render(
            request,
            f"timeline/{template}",
            {**admin.site.each_context(request), "has_permission": True, "zone": zone.key, **context},
        )


def _requested_instant(request: HttpRequest) -> datetime | None:
    """Return the end of the day `date`, or of its minute or second `time`; None without both.

    Raises queries.InvalidInstant.
    """
    day, time = request.GET.get("date", ""), request.GET.get("time", "")
    if not time:
        return queries.parse_instant(day, _zone(request)) if day else None
    if not day:
        raise queries.InvalidInstant("A time needs a date. Enter the date too.")
    found = queries.parse_instant(f"{day}T{time}", _zone(request))
    # Pages show reports to the minute.
    return found + timedelta(seconds=59) if len(time) == len("06:00") else found


def _zone(request: HttpRequest) -> ZoneInfo:
    """Return the time zone of the viewer from the cookie set by the page, or TIME_ZONE."""
    try:
        return ZoneInfo(request.COOKIES.get("zone", "") or settings.TIME_ZONE)
    except (KeyError, OSError, ValueError):  # unknown, a folder, or an invalid name
        return ZoneInfo(settings.TIME_ZONE)


def _matching(text: str) -> QuerySet[Dashboard]:
    text = text.strip().replace("\0", "")
    return Dashboard.objects.filter(Q(slug__icontains=text) | Q(title__icontains=text))


def _find_dashboard(text: str) -> Dashboard | None:
    """Return the dashboard with this slug or title, or the only dashboard that contains the text."""
    exact = Dashboard.objects.filter(Q(slug=text) | Q(title__iexact=text)).first()
    near = _matching(text)[:2]
    return exact or (near[0] if len(near) == 1 else None)


def _chosen_report(dashboard: Dashboard, text: str) -> Report | None:
    """Return the report of the dashboard with this id, or None without an id. Raises Http404."""
    if not text:
        return None
    try:
        report = get_object_or_404(Report, pk=UUID(text), dashboard=dashboard)
    except ValueError as error:
        raise Http404 from error
    report.dashboard = dashboard
    return report


def _parse_instant(text: str) -> datetime:
    try:
        found = parse_compact_instant(text)
    except ValueError as error:
        raise Http404 from error
    if not 1 < found.year < 9999:  # would overflow in some time zones
        raise Http404
    return found


def _positive_number(text: str, default: int) -> int:
    """Return the number in a query parameter, or `default` unless it is between 2 and 9998."""
    valid = text.isascii() and text.isdecimal() and len(text) <= 4 and 1 < int(text) < 9999
    return int(text) if valid else default
