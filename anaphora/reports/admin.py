"""The administrator's pages of dashboards and reports, and the marks that all pages share."""

from typing import Any, TypeVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from anaphora.reports import content, presentation, tokens, upload
from anaphora.reports.archives import Whereabouts, whereabouts
from anaphora.reports.models import ApiToken, Dashboard, Report, Scope

T = TypeVar("T", bound=Model)

admin.site.site_title = admin.site.site_header = "Anaphora archive"
admin.site.index_title = "Reports and where they go"
admin.site.site_url = None  # there is no other site to view
# The tables need the width; the header leads to the pages of every day.
admin.site.enable_nav_sidebar = False


def mark(kind: str, text: str, *, title: str = "") -> SafeString:
    """Return a small coloured label; its word says all that its colour says."""
    return format_html('<span class="mark mark-{}" title="{}">{}</span>', kind, title, text)


class EvidenceAdmin(admin.ModelAdmin[T]):
    """Pages of what is only ever looked at: nobody adds, changes or deletes it here, whatever they may elsewhere."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: the program alone writes these rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        """Nobody: evidence stays as it is."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        """Nobody: evidence stays."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: T | None = None) -> list[str]:
        """All of them."""
        return [name for _, options in self.fieldsets or [] for name in options["fields"]]  # type: ignore[misc]


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin[Dashboard]):
    """What reports depict."""

    list_display = ["slug", "title", "report_count", "latest", "keep_local_days"]
    list_editable = ["keep_local_days"]
    search_fields = ["slug", "title"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dashboard]:
        """Count the reports in the same query."""
        return super().get_queryset(request).annotate(count=Count("reports"), latest=Max("reports__rendered_at"))

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


class _ReportList(ChangeList):
    """The list of reports, which asks for all the rows' whereabouts at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Attach to each report where it went."""
        super().get_results(request)
        found = whereabouts([report.pk for report in self.result_list])
        for report in self.result_list:
            report.places = found[report.pk]


@admin.register(Report)
class ReportAdmin(EvidenceAdmin[Report]):
    """What came in, to read: a report is never changed."""

    list_display = ["rendered_at", "dashboard", "short_filename", "human_size", "archived"]
    list_filter = ["dashboard", "content_type"]
    list_select_related = ["dashboard"]
    list_per_page = 50
    date_hierarchy = "rendered_at"
    show_full_result_count = False
    search_fields = ["filename", "sha256", "dashboard__slug", "dashboard__title"]
    search_help_text = "File name, SHA-256 or dashboard."
    fieldsets = [
        (None, {"fields": ["dashboard_link", "rendered_at", "filename", "timeline_link", "archived_in"]}),
        ("File", {"fields": ["open_link", "exact_size", "content_type", "sha256", "md5", "local_copy"]}),
        ("Record", {"fields": ["id", "ingested_at"]}),
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that knows where its reports went."""
        return _ReportList

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of a report's file and of the upload."""
        view = self.admin_site.admin_view(self.content_view)
        guess = self.admin_site.admin_view(upload.guess)
        return [
            path("<uuid:pk>/content/", view, name="reports_report_content"),
            path("upload/", self.admin_site.admin_view(self.upload_view), name="reports_report_upload"),
            path("upload/guess/", guess, name="reports_report_upload_guess"),
            *super().get_urls(),
        ]

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Take files in, one by one."""
        return upload.page(request, self.admin_site.each_context(request) | {"opts": self.opts})

    def content_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Answer with the file: the local copy, else from where it is stored."""
        report = self.get_object(request, str(pk))
        if report is None or not self.has_view_permission(request, report):
            raise PermissionDenied
        try:
            return content.response(report, request)
        except content.Unavailable as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:reports_report_change", args=[pk]))

    @admin.display(description="file")
    def open_link(self, report: Report) -> SafeString:
        """Lead to the file."""
        return format_html(
            '<a href="{}">Open {}</a>', reverse("admin:reports_report_content", args=[report.pk]), report.filename
        )

    @admin.display(description="timeline")
    def timeline_link(self, report: Report) -> SafeString:
        """Lead to the dashboard as it was then."""
        address = presentation.address(report.dashboard, report.rendered_at)
        return format_html('<a href="{}">What {} looked like then</a>', address, report.dashboard)

    @admin.display(description="dashboard")
    def dashboard_link(self, report: Report) -> SafeString:
        """Lead to the dashboard."""
        address = reverse("admin:reports_dashboard_change", args=[report.dashboard_id])
        return format_html('<a href="{}">{}</a>', address, report.dashboard)

    @admin.display(description="file name", ordering="filename")
    def short_filename(self, report: Report) -> SafeString:
        """Show as much of the name as fits on one line, and all of it on pointing at it."""
        return format_html('<span class="one-line" title="{0}">{0}</span>', report.filename)

    @admin.display(description="size", ordering="size")
    def human_size(self, report: Report) -> str:
        """Show the size as people read it."""
        return filesizeformat(report.size)

    @admin.display(description="size")
    def exact_size(self, report: Report) -> str:
        """Show the size to the byte."""
        return f"{report.size:,} bytes ({filesizeformat(report.size)})"

    @admin.display(description="local copy")
    def local_copy(self, report: Report) -> str:
        """Show where the local copy lies."""
        return str(report.local_path) if report.local_path.exists() else "none"

    @admin.display(description="archived")
    def archived(self, report: Any) -> SafeString:
        """Show one mark for each delivery, which leads there."""
        return _marks(report.places)

    @admin.display(description="archived")
    def archived_in(self, report: Report) -> SafeString:
        """Show each delivery with its key or what is in the way."""
        places = whereabouts([report.pk])[report.pk]
        rows = format_html_join(
            "",
            '<li><a href="{}">{}</a> {} <code>{}</code></li>',
            ((place.url, place.destination, mark(place.state, place.state), place.detail) for place in places),
        )
        return format_html('<ul class="places">{}</ul>', rows) if places else mark("never", "no policy covers it")


def _marks(places: list[Whereabouts]) -> SafeString:
    if not places:
        return mark("never", "no policy")
    return format_html_join(
        " ",
        '<a href="{}">{}</a>',
        ((place.url, mark(place.state, f"{place.destination}: {place.state}", title=place.detail)) for place in places),
    )


class ApiTokenForm(forms.ModelForm[ApiToken]):
    """A new token's name, scopes and expiry."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiToken
        fields = ["name", "scopes", "expires_at"]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Tokens of the API. A token is shown once, when it is made, and can only be revoked after."""

    form = ApiTokenForm
    list_display = ["name", "beginning", "scope_names", "condition", "last_used_at", "expires_at"]
    search_fields = ["name", "beginning"]
    actions = ["revoke"]

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Nobody changes one that exists; whoever may change tokens revokes them."""
        return obj is None and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        """All of one that exists."""
        return ["name", "beginning", "scope_names", "expires_at", "last_used_at", "revoked_at"] if obj else []

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        """Ask for little; show what is known."""
        return self.get_readonly_fields(request, obj) or ["name", "scopes", "expires_at"]

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:  # noqa: FBT001
        """Make the token and show it, this once."""
        made, plain = tokens.create(obj.name, [Scope(scope) for scope in obj.scopes], obj.expires_at)
        obj.pk, obj.beginning = made.pk, made.beginning
        warning = "Copy the token now; it is not shown again:"
        messages.warning(request, format_html('{} <code class="secret">{}</code>', warning, plain))

    @admin.display(description="scopes")
    def scope_names(self, token: ApiToken) -> str:
        """Name the scopes."""
        return ", ".join(Scope(scope).label for scope in token.scopes)

    @admin.display(description="condition")
    def condition(self, token: ApiToken) -> SafeString:
        """Show whether it still opens anything."""
        if token.revoked_at:
            return mark("failed", "revoked")
        if token.expires_at and token.expires_at <= timezone.now():
            return mark("never", "expired")
        return mark("delivered", "valid")

    @admin.action(description="Revoke the chosen tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Make them worthless."""
        chosen = list(queryset.filter(revoked_at__isnull=True))
        tokens.revoke(chosen)
        for token in chosen:
            self.log_change(request, token, "Revoked.")
        self.message_user(request, f"{len(chosen)} tokens are revoked." if chosen else "None of these was valid.")
