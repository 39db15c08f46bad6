"""The administrator's pages of interfaces, policies and deliveries. They show and check; the work is elsewhere."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.models import ClockedSchedule, IntervalSchedule, SolarSchedule

from anaphora.reports.admin import mark
from delivery_s3 import archiver, interfaces, tasks
from delivery_s3.connection_test import TestReport
from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import ArchivePolicy, Delivery, S3Interface, State, diagnosis_of

# Beat's pages show what a policy can use; these kinds of schedule it can't.
admin.site.unregister([ClockedSchedule, IntervalSchedule, SolarSchedule])


@admin.register(S3Interface)
class S3InterfaceAdmin(admin.ModelAdmin[S3Interface]):
    """The configuration page, with its Test."""

    form = S3InterfaceForm
    list_display = ["name", "destination", "last_test", "condition", "deliveries", "enabled"]
    list_filter = ["provider", "enabled", "test_passed"]
    search_fields = ["name", "bucket_name", "endpoint_url"]
    save_on_top = False
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "name",
                    "provider",
                    "access_key_id",
                    "secret_access_key",
                    "region",
                    "bucket_name",
                    "endpoint_url",
                    "enabled",
                ]
            },
        ),
        ("Object keys", {"classes": ["collapse"], "fields": ["key_prefix", "addressing_style"]}),
        ("Trust", {"classes": ["collapse"], "fields": ["ca_bundle"]}),
        (
            "Encryption, retention and storage class",
            {
                "classes": ["collapse"],
                "fields": [
                    "server_side_encryption",
                    "kms_key_id",
                    "object_lock_mode",
                    "retention_days",
                    "storage_class",
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[S3Interface]:
        """Count the deliveries of each interface in the same query."""
        counts = {f"count_{state}": Count("deliveries", filter=Q(deliveries__state=state)) for state in State.values}
        return super().get_queryset(request).annotate(**counts)

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the Test."""
        name = "delivery_s3_s3interface_test"
        return [
            path("add/test/", self.admin_site.admin_view(self.test_view), name=f"{name}_new"),
            path("<path:object_id>/test/", self.admin_site.admin_view(self.test_view), name=name),
            *super().get_urls(),
        ]

    @admin.display(description="bucket", ordering="bucket_name")
    def destination(self, interface: S3Interface) -> SafeString:
        """Show where it leads."""
        where = interface.endpoint_url or f"AWS S3 {interface.region}"
        return format_html("{}<br><small>{}</small>", interface.bucket_name, where)

    @admin.display(description="last test", ordering="tested_at")
    def last_test(self, interface: S3Interface) -> str:
        """Show what the last test found."""
        if interface.tested_at is None:
            return mark("never", "never")
        if interface.test_passed:
            return mark("passed", "passed", title=f"{interface.tested_at:%Y-%m-%d %H:%M} UTC")
        diagnosis = interface.test_report.get("diagnosis") or {}
        return mark("failed", diagnosis.get("title", "failed"))

    @admin.display(description="condition")
    def condition(self, interface: S3Interface) -> str:
        """Show whether deliveries flow."""
        diagnosis = diagnosis_of(interface)
        if diagnosis is None:
            return mark("delivered", "working") if interface.enabled else mark("never", "disabled")
        return mark("failed", diagnosis.title, title=interface.detail)

    @admin.display(description="deliveries")
    def deliveries(self, interface: S3Interface) -> SafeString:
        """Lead to the interface's deliveries, by state."""
        address = reverse("admin:delivery_s3_delivery_changelist")
        links = [
            format_html(
                '<a href="{}?interface__id__exact={}&amp;state__exact={}">{} {}</a>',
                address,
                interface.pk,
                state,
                getattr(interface, f"count_{state}"),
                state,
            )
            for state in (State.DELIVERED, State.PENDING, State.FAILED)
        ]
        return format_html("{} · {} · {}", *links)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page with its Test, and with what the last test of the saved settings found."""
        interface = self.get_object(request, object_id) if object_id else None
        context = {
            "test_url": _test_url(object_id),
            "may_test": request.user.has_perm("delivery_s3.test_s3interface"),
            "last_report": interface.test_report if interface else None,
            "paused": interface if interface and interface.diagnosis else None,
            "pause_diagnosis": diagnosis_of(interface) if interface else None,
        }
        return super().changeform_view(request, object_id, form_url, context | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: S3Interface, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save, and let what waited for better settings go."""
        super().save_model(request, obj, form, change)
        archiver.resume(obj)
        tasks.request_delivery(obj.pk)

    def response_add(
        self, request: HttpRequest, obj: S3Interface, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Test what was just saved, if that was asked for."""
        return self._after_test(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: S3Interface) -> HttpResponse:
        """Test what was just saved, if that was asked for."""
        return self._after_test(request, obj) or super().response_change(request, obj)

    def _after_test(self, request: HttpRequest, interface: S3Interface) -> HttpResponse | None:
        if "_save_and_test" not in request.POST or not request.user.has_perm("delivery_s3.test_s3interface"):
            return None
        self._report_test(request, interface, interfaces.test_saved(interface))
        return HttpResponseRedirect(reverse("admin:delivery_s3_s3interface_change", args=[interface.pk]))

    def _report_test(self, request: HttpRequest, interface: S3Interface, report: TestReport) -> None:
        diagnosis = report.diagnosis
        if diagnosis is None:
            self.message_user(request, f"Saved. The test passed: {report.object_key} is in the bucket.")
        else:
            self.message_user(
                request, f"Saved. The test failed: {diagnosis.title}. {diagnosis.remedy}", level=messages.ERROR
            )
        self.log_change(request, interface, f"Tested: {diagnosis.title if diagnosis else 'passed'}.")

    def test_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Test what is in the form and answer with the result as a piece of the page. Saves nothing.

        Whoever may test but not change gets a test of what is saved.
        """
        interface = self.get_object(request, object_id) if object_id else None
        if not request.user.has_perm("delivery_s3.test_s3interface") or (object_id and interface is None):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        if interface is not None and not self.has_change_permission(request, interface):
            report = interfaces.test_saved(interface)
            return render(request, "delivery_s3/test_report.html", {"report": report.as_json()})
        if interface is None and not self.has_add_permission(request):
            raise PermissionDenied
        form = self.get_form(request, interface, change=interface is not None)(request.POST, instance=interface)
        if not form.is_valid():
            return render(request, "delivery_s3/test_form_errors.html", {"form": form}, status=422)
        report = interfaces.test(form.instance)
        return render(request, "delivery_s3/test_report.html", {"report": report.as_json()})


def _test_url(object_id: str | None) -> str:
    if object_id:
        return reverse("admin:delivery_s3_s3interface_test", args=[object_id])
    return reverse("admin:delivery_s3_s3interface_test_new")


@admin.register(ArchivePolicy)
class ArchivePolicyAdmin(admin.ModelAdmin[ArchivePolicy]):
    """Which dashboards go where."""

    list_display = ["name", "interface", "chosen", "enabled"]
    list_filter = ["enabled", "interface"]
    list_select_related = ["interface"]
    search_fields = ["name"]
    autocomplete_fields = ["dashboards"]
    fields = ["name", "interface", "dashboards", "enabled"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ArchivePolicy]:
        """Bring the dashboards along."""
        return super().get_queryset(request).prefetch_related("dashboards")

    @admin.display(description="dashboards")
    def chosen(self, policy: ArchivePolicy) -> str:
        """Name the dashboards."""
        return ", ".join(str(dashboard) for dashboard in policy.dashboards.all()) or "all"


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin[Delivery]):
    """The queue and the receipts, to read. A failed delivery can be retried."""

    list_display = ["rendered_at", "dashboard", "interface", "marked_state", "integrity", "delivered_at", "problem"]
    list_filter = ["state", "interface", "integrity", "report__dashboard"]
    list_select_related = ["report__dashboard", "interface"]
    list_display_links = ["rendered_at", "marked_state"]
    list_per_page = 50
    show_full_result_count = False
    search_fields = ["object_key", "report__filename", "report__sha256", "report__dashboard__slug"]
    search_help_text = "Object key, file name, SHA-256 or dashboard."
    actions = ["retry"]
    fieldsets = [
        (None, {"fields": ["report_link", "interface_link", "marked_state", "explanation"]}),
        (
            "Receipt",
            {
                "fields": [
                    "delivered_at",
                    "object_key",
                    "version_id",
                    "etag",
                    "sha256",
                    "exact_size",
                    "integrity",
                    "retain_until",
                ]
            },
        ),
        ("Queue", {"fields": ["attempts", "due_at", "leased_until"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Policies make deliveries, nobody else does."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        """A delivery is the queue and the receipt: not to be edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Delivery | None = None) -> bool:
        """A receipt is evidence."""
        return False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whoever could change deliveries, were there anything to change, may retry them."""
        return request.user.has_perm("delivery_s3.change_delivery")

    def get_readonly_fields(self, request: HttpRequest, obj: Delivery | None = None) -> list[str]:
        """All of them."""
        return [name for _, options in self.fieldsets or [] for name in options["fields"]]  # type: ignore[misc]

    @admin.display(description="rendered at", ordering="report__rendered_at")
    def rendered_at(self, delivery: Delivery) -> datetime:
        """Show which report of its dashboard it is."""
        return delivery.report.rendered_at

    @admin.display(description="dashboard", ordering="report__dashboard__slug")
    def dashboard(self, delivery: Delivery) -> SafeString:
        """Name the dashboard and lead to the report."""
        address = reverse("admin:reports_report_change", args=[delivery.report_id])
        return format_html('<a href="{}">{}</a>', address, delivery.report.dashboard)

    @admin.display(description="report", ordering="report__rendered_at")
    def report_link(self, delivery: Delivery) -> SafeString:
        """Lead to the report."""
        address = reverse("admin:reports_report_change", args=[delivery.report_id])
        return format_html('<a href="{}">{}</a>', address, delivery.report)

    @admin.display(description="interface")
    def interface_link(self, delivery: Delivery) -> SafeString:
        """Lead to the interface."""
        address = reverse("admin:delivery_s3_s3interface_change", args=[delivery.interface_id])
        return format_html('<a href="{}">{}</a>', address, delivery.interface)

    @admin.display(description="state", ordering="state")
    def marked_state(self, delivery: Delivery) -> str:
        """Show the state as a mark."""
        return mark(delivery.state, delivery.state)

    @admin.display(description="size")
    def exact_size(self, delivery: Delivery) -> str:
        """Show the size to the byte."""
        return "-" if delivery.size is None else f"{delivery.size:,} bytes ({filesizeformat(delivery.size)})"

    @admin.display(description="what is in the way", ordering="diagnosis")
    def problem(self, delivery: Delivery) -> str:
        """Name the diagnosis."""
        diagnosis = diagnosis_of(delivery)
        return diagnosis.title if diagnosis else ""

    @admin.display(description="what is in the way")
    def explanation(self, delivery: Delivery) -> str:
        """Explain the diagnosis and what to do."""
        diagnosis = diagnosis_of(delivery)
        if diagnosis is None:
            return "nothing"
        return format_html(
            "<strong>{}</strong><p>{}</p><p>{}</p><p><code>{}</code></p>",
            diagnosis.title,
            diagnosis.meaning,
            diagnosis.remedy,
            delivery.detail,
        )

    @admin.action(description="Retry failed deliveries", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> TemplateResponse | None:
        """Make the chosen ones that failed due again."""
        failed = list(queryset.filter(state=State.FAILED))
        count = archiver.retry(failed)
        for delivery in failed:
            self.log_change(request, delivery, "Retried.")
        for interface_id in {delivery.interface_id for delivery in failed}:
            tasks.request_delivery(interface_id)
        self.message_user(request, f"{count} deliveries are due again." if count else "None of these had failed.")
        return None
