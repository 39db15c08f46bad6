"""The admin page of the files that the inbox refused, with the actions "Try again" and "Remove"."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from anaphora.reports import inbox_refused
from anaphora.reports.models import Dashboard, Report

MAX_FILES = 200
"""Maximum number of files on the page, the latest first."""


def page(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Show the page. On POST, put a file back or delete it."""
    if not request.user.has_perm("reports.add_report"):
        raise PermissionDenied
    if request.method == "POST" and settings.INBOX_DIR:
        _act(request)
        return HttpResponseRedirect(request.path)
    context |= {"title": "Refused inbox files", "inbox": settings.INBOX_DIR, "files": [], "number": 0}
    context["dashboards"] = Dashboard.objects.all()
    if settings.INBOX_DIR:
        try:
            context["files"], context["number"] = inbox_refused.list_refused(MAX_FILES)
        except OSError as error:
            context["problem"] = error.strerror
    return render(request, "admin/reports/report/refused.html", context)


def _act(request: HttpRequest) -> None:
    token = request.POST.get("file", "")
    try:
        if "remove" in request.POST:
            done = f"Removed from the inbox: {inbox_refused.remove(token)}."
        else:
            done = f"Put back into the inbox: {inbox_refused.put_back(token, request.POST.get('dashboard', ''))}."
    except inbox_refused.RefusedFileError as error:
        messages.error(request, str(error))
        return
    LogEntry.objects.create(
        user=cast("User", request.user),
        content_type=ContentType.objects.get_for_model(Report),
        object_repr="inbox",
        action_flag=CHANGE,
        change_message=done,
    )
    messages.success(request, done)
