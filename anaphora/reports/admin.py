"""The administrator's pages of dashboards and reports, and the marks that all pages share."""

from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.db.models import Count, Max, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from anaphora.admin_site import ProtectedAdmin
from anaphora.reports.models import Dashboard

T = TypeVar("T", bound=Model)


class DashboardRowForm(forms.ModelForm[Dashboard]):
    """What the list lets change of one dashboard; the column's title is no label, so the field has its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["keep_local_days"]
        field.help_text = ""  # the list has no room for it
        field.widget.attrs["aria-label"] = f"Keep local copies of {self.instance}, in days"


@admin.register(Dashboard)
class DashboardAdmin(ProtectedAdmin[Dashboard]):
    """What reports depict."""

    list_display = ["slug", "title", "report_count", "latest", "keep_local_days"]
    list_editable = ["keep_local_days"]
    search_fields = ["slug", "title"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dashboard]:
        """Count the reports in the same query."""
        return super().get_queryset(request).annotate(count=Count("reports"), latest=Max("reports__rendered_at"))

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> type[forms.ModelForm[Dashboard]]:
        """Use the form whose fields have labels."""
        return super().get_changelist_form(request, form=DashboardRowForm, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Dashboard | None = None) -> list[str]:
        """Keep the slug of a dashboard that exists: object keys bear it."""
        return ["slug"] if obj else []

    @admin.display(description="reports", ordering="count")
    def report_count(self, dashboard: Any) -> SafeString:
        """Lead to the dashboard's reports."""
        address = reverse("admin:reports_report_changelist")
        return format_html('<a href="{}?dashboard__id__exact={}">{}</a>', address, dashboard.pk, dashboard.count)

    @admin.display(description="latest report", ordering="latest")
    def latest(self, dashboard: Any) -> Any:
        """Show when the latest report was rendered."""
        return dashboard.latest
