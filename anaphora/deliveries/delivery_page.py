"""The page of one delivery: its buttons Retry, Cancel, Verify now and Open."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from anaphora.activity import Action, record
from anaphora.admin_site import ReadOnlyAdmin, exact_size
from anaphora.deliveries import documentation, irregularities, queue, tasks, verification
from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.verification import Finding, Verdict
from anaphora.reports.models import READ

MAX_READ = 256 * 1024**2
"""Maximum size in bytes of an object that Verify now reads from end to end. It occupies a thread of the web server."""


class DeliveryPageAdmin(ReadOnlyAdmin[Delivery]):
    """The read-only page of a delivery. Its buttons need the permission to change deliveries."""

    change_form_template = "admin/deliveries/delivery/change_form.html"
    has_history = True

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may retry, cancel and verify: deliveries are read-only, so "change" means this."""
        return request.user.has_perm("deliveries.change_delivery")

    def get_urls(self) -> list[URLPattern]:
        views = {"retry": self.retry_view, "cancel": self.cancel_view, "verify": self.verify_view}
        urls = [
            path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"deliveries_delivery_{name}")
            for name, view in views.items()
        ]
        return [*urls, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the buttons that fit the state of the delivery and the permissions of the user."""
        delivery = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if delivery is not None:
            operate = self.has_operate_permission(request)
            context = {
                "may_retry": operate and delivery.state == State.FAILED,
                "may_cancel": operate and delivery.state in queue.CANCELLABLE,
                "may_verify": operate and delivery.state == State.DELIVERED,
                "may_open": request.user.has_perms(["reports.view_report", READ]),
            }
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def retry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Retry a failed delivery."""
        delivery = self._delivery_to_operate(request, pk)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if queue.retry([delivery]):
            self.log_change(request, delivery, "Retried.")
            tasks.request_delivery(delivery.interface_id)
            messages.success(request, "The delivery is pending again and will be attempted now.")
        else:
            messages.warning(request, "Not retried: only a failed delivery can be retried. This page shows its state.")
        return HttpResponseRedirect(delivery.admin_url)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for confirmation, then cancel a pending or failed delivery."""
        delivery = self._delivery_to_operate(request, pk)
        if delivery.state not in queue.CANCELLABLE:
            return self._not_cancelled(request, delivery)
        if request.method != "POST":
            context = self.admin_site.each_context(request) | {
                "title": "Cancel delivery",
                "opts": self.opts,
                "number": "1 delivery",
                "deliveries": [delivery],
                "back": delivery.admin_url,
            }
            return render(request, "admin/deliveries/delivery/cancel.html", context)
        if not queue.cancel([delivery]):  # a worker claimed it in the meantime
            return self._not_cancelled(request, delivery)
        self.log_change(request, delivery, f"Cancelled: {delivery}.")
        messages.success(request, "The delivery is cancelled. A backfill of an archive policy makes it pending again.")
        return HttpResponseRedirect(delivery.admin_url)

    def _not_cancelled(self, request: HttpRequest, delivery: Delivery) -> HttpResponse:
        messages.warning(request, "Not cancelled: only a pending or failed delivery can be cancelled.")
        return HttpResponseRedirect(delivery.admin_url)

    def verify_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Compare the stored object with the receipt, and show the result."""
        delivery = self._delivery_to_operate(request, pk)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if delivery.state != State.DELIVERED:
            messages.warning(request, "Not verified: nothing is stored before the delivery is delivered.")
            return HttpResponseRedirect(delivery.admin_url)
        full = (delivery.size or 0) <= MAX_READ
        finding = verification.verify_one(delivery, full=full)
        if finding.verdict in {Verdict.MISSING, Verdict.CHANGED}:
            irregularities.record_irregularity(irregularities.DIFFERENCE_FOUND, delivery.interface, findings=1)
        record(Action.VERIFIED, delivery, result=finding.verdict)
        self.log_change(request, delivery, f"Verified: {finding.verdict}.")
        level = messages.SUCCESS if finding.verdict is Verdict.SAME else messages.ERROR
        messages.add_message(request, level, _explain(finding, full=full))
        return HttpResponseRedirect(delivery.admin_url)

    def _delivery_to_operate(self, request: HttpRequest, pk: int) -> Delivery:
        """Return the delivery. Raises PermissionDenied unless the user may view it and operate."""
        delivery = self.get_object(request, str(pk))
        if delivery is None or not self.has_view_permission(request, delivery):
            raise PermissionDenied
        if not self.has_operate_permission(request):
            raise PermissionDenied
        return delivery


def _explain(finding: Finding, *, full: bool) -> str | SafeString:
    """Return the result of Verify now as a message, with the remedy if something is wrong."""
    row, where = finding.delivery, f"{finding.delivery.object_key} in {finding.delivery.interface}"
    if finding.verdict is Verdict.MISSING:
        return (
            f"The object is missing: {where} does not exist. Find out who deleted it. If the bucket keeps versions, "
            "restore it there; otherwise restore it from a copy of the bucket."
        )
    if finding.verdict is Verdict.CHANGED:
        return (
            f"The object has changed: {where} has {finding.detail}. Find out who else writes to this bucket. If the "
            "bucket has versioning or Object Lock, the report still exists as an earlier version."
        )
    if finding.diagnosis is not None:
        text = format_html(
            "The object cannot be read: {}. {} {}",
            finding.diagnosis.title,
            finding.diagnosis.meaning,
            finding.diagnosis.remedy,
        )
        needed = row.interface.child().needed_to_read
        hint = format_html(" Verification needs {}; archiving does not.", needed) if needed else ""
        link = documentation.link(finding.diagnosis.title)
        return format_html("{}{} {} <code>{}</code>", text, hint, link, finding.detail)
    size, now = row.size or 0, f"{timezone.localtime():%H:%M:%S %Z}"
    if full:
        return f"Verified at {now}: all {exact_size(size)} were read, and their SHA-256 is that of the receipt."
    return (
        f"Verified at {now}: size, ETag and checksum that the store reports are those of the receipt. The content was "
        f"not read, because it is larger than {filesizeformat(MAX_READ)}: manage.py verify_archive --full reads it."
    )
