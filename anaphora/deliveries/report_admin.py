"""The admin pages of reports: their files, and their deliveries."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from anaphora.admin_site import CappedPaginator, ReadOnlyAdmin, badge, exact_size
from anaphora.deliveries import file_response, files, heartbeat
from anaphora.deliveries.models import Delivery, Interface, State, with_interfaces
from anaphora.reports import content_types, inbox_refused, refused_page, upload
from anaphora.reports.models import READ, Report
from anaphora.reports.timestamps import compact_instant


class TypeFilter(admin.SimpleListFilter):
    """Filters by the known content types. Listing those in use would read the whole table."""

    title = "format"
    parameter_name = "content_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels = {name: content_types.extension(name, "")[1:].upper() for name in content_types.KNOWN_KINDS}
        return sorted(labels.items(), key=lambda each: each[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Report]) -> QuerySet[Report]:
        return queryset.filter(content_type=self.value()) if self.value() else queryset


class ArchivedFilter(admin.SimpleListFilter):
    """Filters by the states of a report's deliveries.

    A state is looked up per interface, because the index on states begins with the interface.
    """

    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("no", "not archived"),
            ("waiting", "not archived: waiting"),
            ("failed", "not archived: failed"),
            ("cancelled", "not archived: cancelled"),
            ("uncovered", "not archived: no policy"),
            ("yes", "archived"),
            ("partly", "archived, but not everywhere"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Report]) -> QuerySet[Report]:
        interfaces = list(Interface.objects.order_by().values_list("pk", flat=True))
        deliveries = Delivery.objects.filter(report=OuterRef("pk"))
        archived = Exists(deliveries.filter(state=State.DELIVERED))

        def having(*states: State) -> QuerySet[Report]:
            rows = Delivery.objects.filter(interface__in=interfaces, state__in=states).order_by()
            return queryset.filter(pk__in=rows.values("report"))

        match self.value():
            case "no":
                return queryset.filter(~archived)
            case "waiting":
                return having(State.PENDING, State.SENDING).filter(~archived)
            case "failed":
                return having(State.FAILED).filter(~archived)
            case "cancelled":
                return having(State.CANCELLED).filter(~archived)
            case "uncovered":
                return queryset.filter(~Exists(deliveries))
            case "yes":
                return queryset.filter(archived)
            case "partly":
                return having(State.PENDING, State.SENDING, State.FAILED, State.CANCELLED).filter(archived)
        return queryset


class ReportAdmin(ReadOnlyAdmin[Report]):
    """Reports, read-only: a report is never changed."""

    list_display = ["rendered_at", "dashboard", "short_filename", "human_size", "archived"]
    list_filter = [ArchivedFilter, ("rendered_at", admin.DateFieldListFilter), "dashboard", TypeFilter]
    list_select_related = ["dashboard"]
    list_per_page = 50
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # counting takes too long in a table of any size
    search_fields = ["filename", "sha256", "dashboard__slug", "dashboard__title"]
    search_help_text = "File name, SHA-256 or dashboard."
    fieldsets = [
        (None, {"fields": ["dashboard_link", "rendered_at", "filename", "timeline_link", "archived_in"]}),
        ("File", {"fields": ["open_link", "exact_size", "content_type", "sha256", "md5", "local_copy"]}),
        ("Record", {"fields": ["id", "ingested_at"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        return super().get_queryset(request).prefetch_related(with_interfaces())

    def get_list_display(self, request: HttpRequest) -> Any:
        return self._without_dead_links(request, super().get_list_display(request))

    def get_fieldsets(self, request: HttpRequest, obj: Report | None = None) -> Any:
        return [
            (title, {**options, "fields": self._without_dead_links(request, options["fields"])})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def _without_dead_links(self, request: HttpRequest, names: Any) -> list[Any]:
        """Replace columns and fields with links to pages that the user may not view by those without."""
        user = request.user
        instead = {name: name for name in names}
        if not user.has_perm("deliveries.view_delivery"):
            instead |= {"archived": "archived_unlinked", "archived_in": "archived_in_unlinked"}
        if not user.has_perm("reports.view_dashboard"):
            instead |= {"dashboard_link": "dashboard_unlinked"}
        return [instead[name] for name in names if name != "open_link" or user.has_perm(READ)]

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of a report's file and of the upload."""
        view = self.admin_site.admin_view(self.content_view)
        guess = self.admin_site.admin_view(upload.guess)
        return [
            path("<uuid:pk>/content/", view, name="reports_report_content"),
            path("upload/", self.admin_site.admin_view(self.upload_view), name="reports_report_upload"),
            path("upload/guess/", guess, name="reports_report_upload_guess"),
            path("refused/", self.admin_site.admin_view(self.refused_view), name="reports_report_refused"),
            *super().get_urls(),
        ]

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Show the upload page; on POST, ingest files."""
        context = self.admin_site.each_context(request) | {"opts": self.opts}
        return upload.page(request, context, notice=heartbeat.notice)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show how many files the inbox refused to users who may put them back."""
        more: dict[str, Any] = {}
        if settings.INBOX_DIR and request.user.has_perm("reports.add_report"):
            more = {"inbox": True, "refused": inbox_refused.count()}
        return super().changelist_view(request, more | (extra_context or {}))

    def refused_view(self, request: HttpRequest) -> HttpResponse:
        """List the files that the inbox refused; on POST put one back, or remove it."""
        return refused_page.page(request, self.admin_site.each_context(request) | {"opts": self.opts})

    def content_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Respond with the file, from the local copy or else from a store."""
        report = self.get_object(request, str(pk))
        if report is None or not self.has_view_permission(request, report) or not request.user.has_perm(READ):
            raise PermissionDenied
        try:
            return file_response.response(report, request)
        except files.Unavailable as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:reports_report_change", args=[pk]))

    @admin.display(description="file")
    def open_link(self, report: Report) -> SafeString:
        return format_html(
            '<a href="{}">Open {}</a>', reverse("admin:reports_report_content", args=[report.pk]), report.filename
        )

    @admin.display(description="timeline")
    def timeline_link(self, report: Report) -> SafeString:
        address = reverse("timeline-as-of", args=[report.dashboard.slug, compact_instant(report.rendered_at)])
        return format_html('<a href="{}?report={}">What {} looked like then</a>', address, report.pk, report.dashboard)

    @admin.display(description="dashboard")
    def dashboard_link(self, report: Report) -> SafeString:
        address = reverse("admin:reports_dashboard_change", args=[report.dashboard_id])
        return format_html('<a href="{}">{}</a>', address, report.dashboard)

    @admin.display(description="dashboard")
    def dashboard_unlinked(self, report: Report) -> str:
        return str(report.dashboard)

    @admin.display(description="file name", ordering="filename")
    def short_filename(self, report: Report) -> SafeString:
        return format_html('<span class="one-line" title="{0}">{0}</span>', report.filename)

    @admin.display(description="size", ordering="size")
    def human_size(self, report: Report) -> str:
        return filesizeformat(report.size)

    @admin.display(description="size")
    def exact_size(self, report: Report) -> str:
        return exact_size(report.size)

    @admin.display(description="local copy")
    def local_copy(self, report: Report) -> str:
        return str(report.local_path) if report.local_path.exists() else "none"

    @admin.display(description="archived")
    def archived(self, report: Any) -> SafeString:
        return _marks(report, linked=True)

    @admin.display(description="archived")
    def archived_unlinked(self, report: Any) -> SafeString:
        return _marks(report, linked=False)

    @admin.display(description="archived")
    def archived_in(self, report: Report) -> SafeString:
        return _places(report, linked=True)

    @admin.display(description="archived")
    def archived_in_unlinked(self, report: Report) -> SafeString:
        return _places(report, linked=False)


def _marks(report: Any, *, linked: bool) -> SafeString:
    """Return where a report is archived, for a list."""
    deliveries = list(report.deliveries.all())
    if not deliveries:
        return badge("never", "no policy")
    marks = [(each, badge(each.state, f"{each.interface}: {each.state}", title=each.summary)) for each in deliveries]
    return format_html_join(" ", "{}", ((_link(each, mark, linked=linked),) for each, mark in marks))


def _places(report: Any, *, linked: bool) -> SafeString:
    """Return where a report is archived, with keys and problems."""
    deliveries = list(report.deliveries.all())
    if not deliveries:
        return badge("never", "no policy covers it")
    rows = format_html_join(
        "",
        "<li>{} {} <code>{}</code></li>",
        (
            (_link(each, each.interface, linked=linked), badge(each.state, each.state), each.summary)
            for each in deliveries
        ),
    )
    return format_html('<ul class="places">{}</ul>', rows)


def _link(delivery: Delivery, text: Any, *, linked: bool) -> Any:
    return format_html('<a href="{}">{}</a>', delivery.admin_url, text) if linked else text
