"""The upload page of the admin. Each file is sent in a separate request, with its own progress and result."""

import json
import re
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
from anaphora.reports.timestamps import instant_in_filename
from anaphora.reports.upload_handler import upload_error

MAX_GUESSES = 1000
"""Maximum number of files per request. Each file name is compared with each dashboard."""


def page(request: HttpRequest, context: dict[str, Any], *, notice: Callable[[], str]) -> HttpResponse:
    """Show the page. On POST, ingest one file; the response contains the text of `notice`."""
    if not request.user.has_perm("reports.add_report"):
        raise PermissionDenied
    if request.method == "POST":
        return _ingest_file(request, notice)
    zone = settings.TIME_ZONE
    context |= {"dashboards": Dashboard.objects.all(), "zone": zone, "title": "Upload reports"}
    return render(request, "admin/reports/report/upload.html", context)


def guess(request: HttpRequest) -> HttpResponse:
    """Return the suggested dashboard and `rendered_at` of each file, from its name and modification time."""
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
        return HttpResponseBadRequest("Send a list of objects with the keys name and modified.")
    if len(files) > MAX_GUESSES:
        return HttpResponseBadRequest(f"Send {MAX_GUESSES} files at most.")
    for name, modified in files:
        instant = (instant_in_filename(name, zone) or modified).astimezone(zone)
        guesses.append({"dashboard": _dashboard(name, slugs), "rendered_at": instant.strftime("%Y-%m-%dT%H:%M:%S")})
    return JsonResponse({"guesses": guesses})


def _dashboard(name: str, slugs: list[str]) -> str:
    """Return the longest slug that a file name contains, or what precedes a date in it, or the only slug."""
    stem = name.rpartition(".")[0]
    words = f"-{slugify(stem.replace('_', '-'))}-"
    if found := [slug for slug in slugs if f"-{slugify(slug.replace('_', '-'))}-" in words]:
        return max(found, key=len)
    if dated := re.match(r"(.+?)[-_ .]+\d{4}-?\d{2}-?\d{2}(?!\d)", stem):
        return slugify(dated[1])[:100]
    return slugs[0] if len(slugs) == 1 else ""


def _ingest_file(request: HttpRequest, notice: Callable[[], str]) -> HttpResponse:
    try:
        file = request.FILES.get("file")
        if refused := upload_error(request):
            raise refused
        if file is None:
            raise IngestError("file", "Choose a file.")
        ingested = ingest(
            source=cast("BinaryIO", file),
            filename=file.name or "",
            dashboard=request.POST.get("dashboard", ""),
            rendered_at=_parse_rendered_at(request.POST.get("rendered_at", "")),
        )
    except IngestError as error:
        return JsonResponse(
            {"field": error.field, "problem": str(error)}, status=507 if error.reason.temporary else 422
        )
    address = reverse("admin:reports_report_change", args=[ingested.report.pk])
    answer = {"created": ingested.created, "url": address, "report": str(ingested.report), "notice": notice()}
    return JsonResponse(answer)


def _parse_rendered_at(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise IngestError("rendered_at", "Enter the date and time when the report was rendered.") from error
    return instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(settings.TIME_ZONE))
