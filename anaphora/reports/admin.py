"""Admin of dashboards. The admin of reports is in `deliveries`, because it shows deliveries."""

from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from anaphora.admin_site import ProtectedAdmin
from anaphora.reports.counts import report_counts
from anaphora.reports.models import Dashboard, Report

T = TypeVar("T", bound=Model)


class DashboardRowForm(forms.ModelForm[Dashboard]):
    """The editable fields of one row of the list. They have ARIA labels, because the column heading is not a label."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["keep_local_days"]
        field.help_text = ""  # no space in the list
        field.widget.attrs["aria-label"] = f"Keep local copies of {self.instance}, in days"


class DashboardList(ChangeList):
    """A list of dashboards, which counts the reports of all its rows at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Attach to each dashboard its count."""
        super().get_results(request)
        counts = report_counts([dashboard.pk for dashboard in self.result_list])
        for dashboard in self.result_list:
            dashboard.count = counts[dashboard.pk]


@admin.register(Dashboard)
class DashboardAdmin(ProtectedAdmin[Dashboard]):
    """Dashboards, with the number of reports and the latest report."""

    list_display = ["slug", "title", "report_count", "latest", "keep_local_days"]
    list_editable = ["keep_local_days"]
    list_per_page = 25
    search_fields = ["slug", "title"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dashboard]:
        # The time of the latest report, by an index.
        latest = Report.objects.filter(dashboard=OuterRef("pk")).order_by("-rendered_at").values("rendered_at")[:1]
        return super().get_queryset(request).annotate(latest=Subquery(latest))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DashboardList

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> type[forms.ModelForm[Dashboard]]:
        return super().get_changelist_form(request, form=DashboardRowForm, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Dashboard | None = None) -> list[str]:
        """Make the slug of an existing dashboard read-only, because object keys contain it."""
        return ["slug"] if obj else []

    @admin.display(description="reports")
    def report_count(self, dashboard: Any) -> SafeString:
        address = reverse("admin:reports_report_changelist")
        return format_html('<a href="{}?dashboard__id__exact={}">{}</a>', address, dashboard.pk, dashboard.count)

    @admin.display(description="latest report", ordering="latest")
    def latest(self, dashboard: Any) -> Any:
        return dashboard.latest
