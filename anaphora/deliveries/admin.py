"""The admin pages of archive policies and deliveries. Those of interfaces and reports are in separate modules."""

import logging
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from anaphora.activity import Action, record
from anaphora.admin_site import CappedPaginator, badge, count_noun, exact_size
from anaphora.deliveries import (
    documentation,
    errors,
    heartbeat,
    interface_admin,
    policies,
    queue,
    schedule_field,
    schedules,
    tasks,
)
from anaphora.deliveries.delivery_page import DeliveryPageAdmin
from anaphora.deliveries.errors import Diagnosis
from anaphora.deliveries.models import ArchivePolicy, Delivery, Interface, Role, State, diagnosis_of
from anaphora.deliveries.report_admin import ReportAdmin
from anaphora.deliveries.schedule_field import ScheduleField, ScheduleForm
from anaphora.reports.models import Report

logger = logging.getLogger(__name__)

admin.site.register(Report, ReportAdmin)
__all__ = ["interface_admin"]  # importing it registers its pages

# Forms offer schedules in words, so the admin pages of django-celery-beat are not needed.
admin.site.unregister([ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule])


class PolicyForm(ScheduleForm[ArchivePolicy]):
    """The form of a policy."""

    schedule = ScheduleField(empty="As soon as rendered", label="Archive")

    class Meta:
        model = ArchivePolicy
        fields = ["name", "interface", "dashboards", "schedule", "enabled"]


@admin.register(ArchivePolicy)
class ArchivePolicyAdmin(admin.ModelAdmin[ArchivePolicy]):
    """Archive policies, with the next run of their schedule and the backfill."""

    list_display = ["name", "interface", "chosen", "when", "next_run", "enabled"]
    list_filter = ["enabled", "interface"]
    list_select_related = ["interface", "schedule"]
    search_fields = ["name"]
    autocomplete_fields = ["dashboards"]
    form = PolicyForm

    def get_queryset(self, request: HttpRequest) -> QuerySet[ArchivePolicy]:
        return super().get_queryset(request).prefetch_related("dashboards")

    def get_fields(self, request: HttpRequest, obj: ArchivePolicy | None = None) -> Any:
        """Show the schedule in words to those who may not change it."""
        if obj is None or self.has_change_permission(request, obj):
            return ["name", "interface", "dashboards", "schedule", "enabled"]
        return ["name", "interface", "dashboards", "when", "next_run", "enabled"]

    def get_readonly_fields(self, request: HttpRequest, obj: ArchivePolicy | None = None) -> Any:
        return ["when", "next_run"]

    @admin.display(description="dashboards")
    def chosen(self, policy: ArchivePolicy) -> str:
        return ", ".join(str(dashboard) for dashboard in policy.dashboards.all()) or "all"

    @admin.display(description="when")
    def when(self, policy: ArchivePolicy) -> str:
        return schedules.describe(policy.schedule) if policy.schedule else "as soon as rendered"

    @admin.display(description="next run")
    def next_run(self, policy: ArchivePolicy) -> str:
        if policy.schedule is None:
            return "-"
        due = schedules.next_run(policy.schedule, timezone.now()) if policy.enabled else None
        return schedules.in_words(due, policy.schedule) if due else "never"

    def get_urls(self) -> list[URLPattern]:
        backfill, next_runs = (self.admin_site.admin_view(view) for view in (self.backfill_view, self.next_runs_view))
        return [
            path("<int:pk>/backfill/", backfill, name="deliveries_archivepolicy_backfill"),
            path("next-runs/", next_runs, name="deliveries_archivepolicy_next_runs"),
            *super().get_urls(),
        ]

    def next_runs_view(self, request: HttpRequest) -> HttpResponse:
        """Return the next runs of the schedule in the query as JSON. Does not use the database."""
        return JsonResponse(schedule_field.preview(request.GET.dict()))

    def backfill_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show how many deliveries are missing and the progress; on POST, start the backfill."""
        policy = self.get_object(request, str(pk))
        if policy is None or not self.has_change_permission(request, policy):
            raise PermissionDenied
        if request.method == "POST":
            try:
                tasks.backfill.delay(policy.pk)
                record(Action.BACKFILLED, policy)
                self.log_change(request, policy, "Backfill started.")
            except Exception:  # each kind of broker has its own errors, such as a refused password
                logger.exception("The backfill of %s was not started", policy)
                messages.error(
                    request,
                    "The backfill was not started: the message broker (CELERY_BROKER_URL) does not answer. Start the "
                    "broker and try again, or run manage.py backfill, which needs no broker.",
                )
            return HttpResponseRedirect(request.path)
        coverage = policies.coverage(policy)
        left = coverage.remaining
        context = self.admin_site.each_context(request) | {
            "minutes_left": 1 + int(left.total_seconds() // 60) if left else None,
            "title": f"Backfill: {policy}",
            "opts": self.opts,
            "policy": policy,
            "coverage": coverage,
        }
        return render(request, "admin/deliveries/archivepolicy/backfill.html", context)


WAITING = {
    State.PENDING.value: "It is waiting for a worker.",
    State.SENDING.value: "It is being uploaded.",
    State.CANCELLED.value: "An administrator cancelled it. A backfill of an archive policy makes it pending again.",
}
"""The explanation of an undelivered delivery's state."""

LISTED = 20
"""How many deliveries the confirmation page lists; it counts the rest."""


def _problem_of(interface: Interface) -> tuple[Diagnosis | None, str]:
    """Return the diagnosis of why all deliveries to an interface wait, and when they go on; None if nothing is wrong.

    The interface's detail is left out, because it can name the object of another delivery.
    """
    if not interface.enabled:
        return errors.INTERFACE_DISABLED, ""
    if diagnosis := diagnosis_of(interface):
        then = interface.paused_until
        when = f"at {date_format(timezone.localtime(then), 'DATETIME_FORMAT')}" if then else "soon"
        return diagnosis, f"This delivery is not lost. The next automatic attempt is {when}."
    worker = next((each for each in heartbeat.missing() if each.role is Role.WORKER), None)
    return (worker.diagnosis, f"{worker}.") if worker else (None, "")


@admin.register(Delivery)
class DeliveryAdmin(DeliveryPageAdmin):
    """The queue and the receipts, read-only. Failed deliveries can be retried, undelivered ones cancelled."""

    list_display = ["rendered_at", "dashboard", "interface", "marked_state", "integrity", "delivered_at", "problem"]
    list_filter = ["state", "interface", "integrity", "report__dashboard"]
    list_select_related = ["report__dashboard", "interface"]
    list_display_links = ["rendered_at", "marked_state"]
    list_per_page = 50
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["object_key", "report__filename", "report__sha256", "report__dashboard__slug"]
    search_help_text = "Object key, file name, SHA-256 or dashboard."
    actions = ["retry", "cancel"]
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

    def get_fieldsets(self, request: HttpRequest, obj: Delivery | None = None) -> Any:
        """Leave out what does not apply: the receipt before the delivery, the problem and the queue after it."""
        delivered = obj is not None and obj.state == State.DELIVERED
        left_out = {"explanation", "due_at", "leased_until"} if delivered else {"leased_until"}
        left_out |= {name for name in ("version_id", "retain_until") if obj is not None and not getattr(obj, name)}
        if obj is not None and obj.state == State.SENDING:
            left_out.remove("leased_until")
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in left_out]})
            for title, options in super().get_fieldsets(request, obj)
            if title != "Receipt" or delivered
        ]

    @admin.display(description="rendered at", ordering="report__rendered_at")
    def rendered_at(self, delivery: Delivery) -> datetime:
        return delivery.report.rendered_at

    @admin.display(description="dashboard", ordering="report__dashboard__slug")
    def dashboard(self, delivery: Delivery) -> SafeString:
        address = reverse("admin:reports_report_change", args=[delivery.report_id])
        return format_html('<a href="{}">{}</a>', address, delivery.report.dashboard)

    @admin.display(description="report", ordering="report__rendered_at")
    def report_link(self, delivery: Delivery) -> SafeString:
        address = reverse("admin:reports_report_change", args=[delivery.report_id])
        return format_html('<a href="{}">{}</a>', address, delivery.report)

    @admin.display(description="interface")
    def interface_link(self, delivery: Delivery) -> SafeString:
        address = reverse("admin:deliveries_interface_change", args=[delivery.interface_id])
        return format_html('<a href="{}">{}</a>', address, delivery.interface)

    @admin.display(description="state", ordering="state")
    def marked_state(self, delivery: Delivery) -> str:
        return badge(delivery.state, delivery.state)

    @admin.display(description="size")
    def exact_size(self, delivery: Delivery) -> str:
        return "-" if delivery.size is None else exact_size(delivery.size)

    @admin.display(description="problem", ordering="diagnosis")
    def problem(self, delivery: Delivery) -> str:
        diagnosis = diagnosis_of(delivery)
        if diagnosis is None and delivery.state == State.PENDING:
            diagnosis = diagnosis_of(delivery.interface)
        return diagnosis.title if diagnosis else ""

    @admin.display(description="problem")
    def explanation(self, delivery: Delivery) -> str:
        diagnosis, detail, continues = diagnosis_of(delivery), delivery.detail, ""
        if diagnosis is None and delivery.state == State.PENDING:
            diagnosis, continues = _problem_of(delivery.interface)
        if diagnosis is None:
            return WAITING.get(delivery.state, "-")
        text = format_html(
            "<strong>{}</strong><p>{}</p><p>{}</p>", diagnosis.title, diagnosis.meaning, diagnosis.remedy
        )
        if delivery.state == State.CANCELLED:
            text = format_html("<p>{}</p>", WAITING[State.CANCELLED.value]) + text
        if continues:
            text += format_html("<p>{}</p>", continues)
        if detail:
            text += format_html("<p><code>{}</code></p>", detail)
        link = documentation.link(diagnosis.title)
        return text + format_html("<p>{}</p>", link) if link else text

    @admin.action(description="Retry failed deliveries", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        failed = list(queryset.filter(state=State.FAILED))
        count = queue.retry(failed)
        for delivery in failed:
            self.log_change(request, delivery, "Retried.")
        for interface_id in {delivery.interface_id for delivery in failed}:
            tasks.request_delivery(interface_id)
        self.message_user(
            request,
            f"Retried: {count_noun(count, 'delivery', 'deliveries')}."
            if count
            else "None of the selected deliveries has failed.",
        )

    @admin.action(description="Cancel undelivered deliveries", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse | None:
        """Ask for confirmation, then cancel the selected deliveries that are pending or failed, and log each."""
        chosen = list(queryset.filter(state__in=queue.CANCELLABLE))
        if not chosen:
            self.message_user(request, "None of the selected deliveries can be cancelled.")
            return None
        if "confirmed" not in request.POST:
            context = self.admin_site.each_context(request) | {
                "title": "Cancel deliveries",
                "opts": self.opts,
                "number": count_noun(len(chosen), "delivery", "deliveries"),
                "left_out": queryset.count() - len(chosen),
                "deliveries": chosen[:LISTED],
                "more": max(len(chosen) - LISTED, 0),
                "checkbox": ACTION_CHECKBOX_NAME,
                "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
                "across": request.POST.get("select_across", "0"),
                "back": request.get_full_path(),
            }
            return render(request, "admin/deliveries/delivery/cancel.html", context)
        with transaction.atomic():
            cancelled = queue.cancel(chosen)
            for delivery in cancelled:
                self.log_change(request, delivery, f"Cancelled: {delivery}.")
        self.message_user(request, f"Cancelled: {count_noun(len(cancelled), 'delivery', 'deliveries')}.")
        return None
