"""Upload in the admin: several files, each by a request of its own, so that each has its progress and its fate."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import slugify

from anaphora.reports.ingest import IngestError, ingest
from anaphora.reports.models import Dashboard
from anaphora.reports.timestamps import moment_in
from anaphora.reports.upload_handler import refusal

MOST_GUESSES = 1000
"""Files that are asked for at once. Each name is compared with each dashboard's."""


def page(request: HttpRequest, context: dict[str, Any], *, notice: Callable[[], str]) -> HttpResponse:
    """Show the page; take one file in on POST, and say with it what `notice` has to say of what comes next."""
    if not request.user.has_perm("reports.add_report"):
        raise PermissionDenied
    if request.method == "POST":
        return _take_in(request, notice)
    zone = settings.TIME_ZONE
    context |= {"dashboards": Dashboard.objects.all(), "zone": zone, "title": "Upload reports"}
    return render(request, "admin/reports/report/upload.html", context)


def guess(request: HttpRequest) -> HttpResponse:
    """Answer, for each file's name and time of modification (seconds since 1970), with what they tell."""
    if not request.user.has_perm("reports.add_report") or request.method != "POST":
        raise PermissionDenied
    slugs = list(Dashboard.objects.values_list("slug", flat=True))
    zone = ZoneInfo(settings.TIME_ZONE)
    guesses = []
    try:
        files = [
            (str(file["name"])[:255], datetime.fromtimestamp(float(file["modified"]), UTC).astimezone(zone))
            for file in json.loads(request.body)
        ]
    except (ValueError, TypeError, LookupError, OverflowError, OSError, RecursionError):
        return HttpResponseBadRequest("Send a list of objects, each with a name and when it was modified.")
    if len(files) > MOST_GUESSES:
        return HttpResponseBadRequest(f"Ask for {MOST_GUESSES} files at the most.")
    for name, modified in files:
        moment = (moment_in(name, zone) or modified).astimezone(zone)
        guesses.append({"dashboard": _dashboard(name, slugs), "rendered_at": moment.strftime("%Y-%m-%dT%H:%M:%S")})
    return JsonResponse({"guesses": guesses})


def _dashboard(name: str, slugs: list[str]) -> str:
    """Return the longest slug that stands in a file's name; the only dashboard where there is but one."""
    words = f"-{slugify(name.rpartition('.')[0].replace('_', '-'))}-"
    found = [slug for slug in slugs if f"-{slugify(slug.replace('_', '-'))}-" in words]
    return max(found, key=len) if found else (slugs[0] if len(slugs) == 1 else "")


def _take_in(request: HttpRequest, notice: Callable[[], str]) -> HttpResponse:
    try:
        file = request.FILES.get("file")
        if refused := refusal(request):
            raise refused
        if file is None:
            raise IngestError("file", "Choose a file.")
        taken = ingest(
            source=cast("BinaryIO", file),
            filename=file.name or "",
            dashboard=request.POST.get("dashboard", ""),
            rendered_at=_moment(request.POST.get("rendered_at", "")),
        )
    except IngestError as error:
        return JsonResponse({"field": error.field, "problem": str(error)}, status=507 if error.reason.passes else 422)
    address = reverse("admin:reports_report_change", args=[taken.report.pk])
    answer = {"created": taken.created, "url": address, "report": str(taken.report), "notice": notice()}
    return JsonResponse(answer)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise IngestError("rendered_at", "Enter when it was rendered, date and time.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(settings.TIME_ZONE))
