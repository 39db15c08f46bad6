"""The timeline's pages: what a dashboard looked like then, beside what came before and after, and what changed.

Doors: they check, call one function, and show the answer. Times are shown in the viewer's zone, which the page names;
addresses hold them in UTC, so a link means the same to everybody.
"""

import logging
from datetime import datetime
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

from anaphora.deliveries import evidence, file_response, files
from anaphora.reports.models import Dashboard, Preview, Report
from anaphora.reports.timestamps import read_stamp, stamp
from anaphora.timeline import previews, queries, tasks, view_context

logger = logging.getLogger(__name__)

CARDS = 24
"""Dashboards on the first page, those with the latest reports first."""

SUGGESTIONS = 20
"""Dashboards that the type-ahead offers."""


def viewer(view: Any) -> Any:
    """Let in who may view reports: others log in first, or are told that they may not."""
    return require_safe(login_required(permission_required("reports.view_report", raise_exception=True)(view)))


@viewer
def index(request: HttpRequest) -> HttpResponse:
    """Choose a dashboard; with `dashboard` and perhaps `date` and `time`, lead to what it looked like then."""
    wanted = request.GET.get("dashboard", "").strip().replace("\0", "")
    problem, when = "", None
    if wanted:
        try:
            when = _asked(request)
        except queries.BadMoment as error:
            problem = str(error)
        dashboard = _named(wanted)
        if dashboard and not problem:
            return redirect(view_context.address(dashboard, when))
        if not dashboard and not problem:
            several = _matching(wanted).exists()
            problem = f"Several dashboards contain {wanted!r}: choose one." if several else ""
            problem = problem or f"There is no dashboard {wanted!r}."
    cards = view_context.cards(_matching(wanted if problem else ""), CARDS + 1, when)
    return _page(
        request,
        "index.html",
        title="Timeline",
        cards=cards[:CARDS],
        more=len(cards) > CARDS,
        problem=problem,
        wanted=wanted,
        when=timezone.localtime(when, _zone(request)) if when else None,
    )


@viewer
def dashboards(request: HttpRequest) -> HttpResponse:
    """Return the dashboards whose slug or title contains `q`, for the type-ahead."""
    found = _matching(request.GET.get("q", ""))[:SUGGESTIONS]
    return JsonResponse({"dashboards": [{"slug": row.slug, "title": row.title} for row in found]})


@viewer
def then(request: HttpRequest, slug: str, instant: str = "") -> HttpResponse:
    """Show what a dashboard looked like at an instant; without one, what it looks like now.

    Of a dashboard with several formats, one is shown at a time; before, after and the film strip are of the same.
    """
    dashboard = get_object_or_404(Dashboard, slug=slug)
    when = _instant(instant) if instant else timezone.now()
    kind = request.GET.get("type", "").replace("\0", "")
    found = queries.as_of(dashboard, when, kind)
    if not kind and found.report and len(found.formats) > 1:
        kind = found.report.content_type
        found = queries.as_of(dashboard, when, kind)
    report, zone = found.report, _zone(request)
    shown = report.rendered_at if report else when
    day = shown.astimezone(zone).date()
    calendar = queries.calendar(dashboard, _number(request.GET.get("year", ""), day.year), zone)
    neighbours = [view_context.address(dashboard, each.rendered_at, kind) if each else "" for each in found.beside]
    context: dict[str, Any] = {}
    if report:
        context = view_context.shown(report) | view_context.receipt(report)
        context["link"] = view_context.address(dashboard, report.rendered_at, kind)
        if found.previous:
            instants = found.previous.rendered_at, report.rendered_at
            context["compare"] = view_context.compare_address(dashboard, *instants, type=kind)
    return _page(
        request,
        "then.html",
        title=str(dashboard),
        dashboard=dashboard,
        when=when if instant else None,
        asked=when,
        found=found,
        kind=kind,
        previous=neighbours[0],
        next=neighbours[1],
        formats=[
            {
                "label": view_context.label(type_),
                "address": view_context.address(dashboard, when if instant else None, type_),
                "current": each == report,
            }
            for type_, each in found.formats.items()
        ],
        calendar=calendar,
        days=view_context.days(calendar, dashboard, zone, kind, day if report else None),
        years=[view_context.query(type=kind, year=year) if year else "" for year in (calendar.previous, calendar.next)],
        strip=view_context.strip(dashboard, shown, kind, report),
        **context,
    )


@viewer
def compare(request: HttpRequest, slug: str) -> HttpResponse:
    """Show two instants of a dashboard beside each other, with what changed.

    What people typed leads to the address that means the same in every time zone.
    """
    dashboard = get_object_or_404(Dashboard, slug=slug)
    asked = [request.GET.get(name, "") for name in ("from", "to")]
    kind, number = request.GET.get("type", "").replace("\0", ""), _number(request.GET.get("page", ""), 1)
    context: dict[str, Any] = {"dashboard": dashboard, "title": f"{dashboard}: compare", "kind": kind}
    try:
        one, other = (queries.moment(text, _zone(request)) if text else timezone.now() for text in asked)
    except queries.BadMoment as error:
        return _page(request, "compare.html", problem=str(error), **context)
    if asked != [stamp(one), stamp(other)]:
        return redirect(view_context.compare_address(dashboard, one, other, type=kind))
    reports = [queries.as_of(dashboard, each, kind).report for each in (one, other)]
    if reports[0] is None or reports[1] is None:
        problem = "There is no report at or before one of these instants."
        return _page(request, "compare.html", problem=problem, **context)
    context |= view_context.compared(reports[0], reports[1], number, kind)
    pages = [page for page in (number - 1, number + 1) if 1 <= page <= context.get("pages", 0)]
    turns = {page: view_context.compare_address(dashboard, one, other, type=kind, page=str(page)) for page in pages}
    return _page(
        request,
        "compare.html",
        one=reports[0],
        other=reports[1],
        number=number,
        earlier=turns.get(number - 1, ""),
        later=turns.get(number + 1, ""),
        **context,
    )


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Lead administrators to the admin, others to the timeline."""
    return redirect("admin:index" if request.user.is_staff else "timeline")


# A report's file and pictures.


@viewer
def file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Answer with a report's file, from here or from where it is stored."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    try:
        return file_response.response(report, request)
    except files.Unavailable as error:
        return HttpResponse(str(error), status=404, content_type="text/plain; charset=utf-8")


@viewer
def evidence_file(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Answer with the evidence for a report."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    try:
        return file_response.evidence_response(report)
    except evidence.NoEvidence as problem:
        return HttpResponse(str(problem), status=404, content_type="text/plain; charset=utf-8")


@viewer
def preview(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """Answer with a report's preview. Where there is none yet, have it made, and say 404 until then."""
    report = get_object_or_404(Report, pk=pk)
    try:
        image = report.preview_path.open("rb")
    except OSError:
        if report.drawable:
            _have_made(report)
        return HttpResponse(status=404, headers={"Cache-Control": "no-store"})
    return FileResponse(image, content_type="image/webp", headers={"Cache-Control": "private, max-age=86400"})


@viewer
def page(request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
    """Answer with a picture of one page of a report."""
    report = get_object_or_404(Report.objects.select_related("dashboard"), pk=pk)
    etag = f'"{report.sha256}-{number}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=31536000, immutable"}
    if kept := get_conditional_response(request, etag=etag):
        return kept
    try:
        drawn = previews.page(report, number)
    except previews.NoPicture as error:
        return HttpResponse(str(error), status=404, content_type="text/plain; charset=utf-8")
    return HttpResponse(drawn.image, content_type="image/webp", headers=headers)


def _have_made(report: Report) -> None:
    if cache.add(f"preview-{report.pk}", 1, 60):  # asked once a minute, however many look
        Report.objects.filter(pk=report.pk).update(preview=Preview.WAITING)
        try:
            tasks.make_preview.delay(str(report.pk))
        except Exception as error:  # each kind of broker has errors of its own, such as a refused password
            logger.warning("The broker takes no message (%s); the preview waits for the next look", error)
            cache.delete(f"preview-{report.pk}")


# What the templates are told.


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    zone = _zone(request)
    with timezone.override(zone):
        return render(
            request,
            f"timeline/{template}",
            {**admin.site.each_context(request), "has_permission": True, "zone": zone.key, **context},
        )


def _asked(request: HttpRequest) -> datetime | None:
    """Return the instant that `date` and perhaps `time` name; None for none. Raises queries.BadMoment."""
    when = request.GET.get("date", "")
    when += f"T{request.GET['time']}" if when and request.GET.get("time") else ""
    return queries.moment(when, _zone(request)) if when else None


def _zone(request: HttpRequest) -> ZoneInfo:
    """Return the viewer's time zone, which the page's script tells by a cookie; else the installation's."""
    try:
        return ZoneInfo(request.COOKIES.get("zone", "") or settings.TIME_ZONE)
    except (KeyError, OSError, ValueError):  # unknown, a folder, no name
        return ZoneInfo(settings.TIME_ZONE)


def _matching(text: str) -> QuerySet[Dashboard]:
    text = text.strip().replace("\0", "")
    return Dashboard.objects.filter(Q(slug__icontains=text) | Q(title__icontains=text))


def _named(text: str) -> Dashboard | None:
    """Return the dashboard that a person means: its slug, its title, or the only one that contains this."""
    exact = Dashboard.objects.filter(Q(slug=text) | Q(title__iexact=text)).first()
    near = _matching(text)[:2]
    return exact or (near[0] if len(near) == 1 else None)


def _instant(text: str) -> datetime:
    try:
        found = read_stamp(text)
    except ValueError as error:
        raise Http404 from error
    if not 1 < found.year < 9999:  # so that it is in the calendar in every time zone
        raise Http404
    return found


def _number(text: str, default: int) -> int:
    """Return the positive number that a query gives, as far as it is one of up to four digits."""
    plain = text.isascii() and text.isdecimal() and len(text) <= 4 and 1 < int(text) < 9999
    return int(text) if plain else default
