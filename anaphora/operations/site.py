"""The admin site: its start page is the overview; the list of all models is under Settings."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

_ELSEWHERE = {("reports", "Report"), ("deliveries", "Delivery")}
"""Models that the header links to. They are not configuration, so the settings page leaves them out."""


class StaffLoginForm(AdminAuthenticationForm):
    """Names the page on which users without staff status log in."""

    error_messages = AdminAuthenticationForm.error_messages | {
        "invalid_login": (
            "This is not the name and password of an active user with staff status. Both are case-sensitive. Users "
            "without staff status log in at /login/."
        )
    }


class OverviewSite(AdminSite):
    """Django's admin site with an overview and a settings page."""

    login_form = StaffLoginForm

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the pages."""
        return [
            path("settings/", self.admin_view(self.settings_view), name="settings"),
            path("first-report/", self.admin_view(self.first_report_view), name="first_report"),
            *super().get_urls(),
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the overview."""
        from anaphora.operations import overview, watcher  # models, which are loaded after the site

        watcher.check_if_stale()
        context = self.each_context(request) | {"title": "Overview", "is_overview": True} | overview.build(request.user)
        return TemplateResponse(request, "operations/overview.html", context | (extra_context or {}))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add the models of the settings page: the header links to it if there are any."""
        context = super().each_context(request)
        return context | {"settings_apps": _configuration(context["available_apps"])}

    def settings_view(self, request: HttpRequest) -> HttpResponse:
        """Show Django's list of models, without those in _ELSEWHERE."""
        context = self.each_context(request)
        context |= {"title": "Settings", "app_list": context["settings_apps"]}
        return TemplateResponse(request, "operations/settings.html", context)

    def first_report_view(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the first report in the timeline; if there is one, end the first steps."""
        from anaphora.operations import first_steps
        from anaphora.reports.models import Report

        if not request.user.has_perm("reports.view_report"):
            raise PermissionDenied
        if request.user.has_perm("deliveries.add_archivepolicy") and Report.objects.exists():
            first_steps.finish()
        return HttpResponseRedirect(first_steps.first_report_path())


def _configuration(apps: list[Any]) -> list[dict[str, Any]]:
    """Return the apps with those of their models that are not in _ELSEWHERE; none without such models."""
    found = []
    for app in apps:
        models = [each for each in app["models"] if (app["app_label"], each["object_name"]) not in _ELSEWHERE]
        if models:
            found.append(app | {"models": models})
    return found
