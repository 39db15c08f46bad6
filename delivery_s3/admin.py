"""The configuration page of S3 interfaces: the form and the Test.

The views of the Test return HTML fragments. `test_view` streams them while the test runs, as one JSON object per line.
All of them use the values in the form, saved or not, and do not save the form. Only the result of a test of the
saved, unchanged values is recorded.
"""

import json
from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from anaphora.admin_site import count_noun
from anaphora.deliveries import queue, signing, tasks
from anaphora.deliveries.destinations import ProtectionGrade
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.interface_admin import InterfaceAdmin
from anaphora.deliveries.models import Delivery, State, diagnosis_of
from delivery_s3 import permissions
from delivery_s3.connection_test import services
from delivery_s3.connection_test.runner import DEADLINE, ConnectionTest, TestReport
from delivery_s3.connection_test.steps import STEPS
from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import S3Interface
from delivery_s3.providers import PROVIDERS

FORM_ONLY = {"allow_http", "same_store"}
"""Confirmations that only the form has; they are not stored."""

NOT_TESTED = {*FORM_ONLY, "name", "enabled", "write_manifests"}
"""Fields that do not affect the result of a test."""


@admin.register(S3Interface)
class S3InterfaceAdmin(InterfaceAdmin[S3Interface]):
    """The configuration page with the Test."""

    form = S3InterfaceForm
    list_filter = ["provider", "enabled", "test_passed"]
    search_fields = ["name", "bucket_name", "endpoint_url"]
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
                    "same_store",
                    "allow_http",
                    "enabled",
                ]
            },
        ),
        (
            "Role (instead of the access key, or assumed with it)",
            {"classes": ["collapse"], "fields": ["credentials", "role_arn", "external_id"]},
        ),
        ("Object keys", {"classes": ["collapse"], "fields": ["key_prefix", "write_manifests", "addressing_style"]}),
        ("Certificates", {"classes": ["collapse"], "fields": ["ca_bundle"]}),
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

    # The form.

    def get_fieldsets(self, request: HttpRequest, obj: S3Interface | None = None) -> Any:
        """Leave out FORM_ONLY on the read-only page."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in FORM_ONLY]})
            for title, options in fieldsets
        ]

    def get_urls(self) -> list[URLPattern]:
        views = {
            "test": self.test_view,
            "remove": self.remove_view,
            "grants": self.grants_view,
            "retry": self.retry_view,
        }
        urls = []
        for name, view in views.items():
            wrapped = self.admin_site.admin_view(view)
            urls.append(path(f"add/{name}/", wrapped, name=f"delivery_s3_s3interface_{name}_new"))
            urls.append(path(f"<int:pk>/{name}/", wrapped, name=f"delivery_s3_s3interface_{name}"))
        return [*urls, *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form, the Test and the result of the last test of the saved values."""
        interface = self.get_object(request, object_id) if object_id else None
        context = {
            "may_test": request.user.has_perm("delivery_s3.test_s3interface"),
            "last_report": interface.test_report if interface else None,
            "signed_report": request.POST.get("tested", ""),  # keeps the result if the form has errors
            "steps": [title for title, _, _ in STEPS],
            "seconds": DEADLINE,
            "urls": {name: _url(name, interface) for name in ("test", "remove", "grants", "retry")},
            "paused": interface if interface and interface.diagnosis else None,
            "pause_diagnosis": diagnosis_of(interface) if interface else None,
            "grants": _grants(interface or S3Interface()),
            "proof": _proof(interface) if interface else None,
            "presets": {provider.code: provider.preset() for provider in PROVIDERS.values()},
        }
        return super().changeform_view(request, object_id, form_url, context | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: S3Interface, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save, and record the result of a test of exactly these values; forget the result of other values."""
        if set(form.changed_data) & {"provider", "endpoint_url", "bucket_name"}:
            obj.capabilities = {}  # they describe the previous bucket
        super().save_model(request, obj, form, change)
        if report := services.load_signed_report(obj, request.POST.get("tested", "")):
            services.record_result(obj, report)
        elif change and set(form.changed_data) - NOT_TESTED:
            services.clear_result(obj)

    def response_add(
        self, request: HttpRequest, obj: S3Interface, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Run a test after "Save and test"."""
        return self._test_after_save(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: S3Interface) -> HttpResponse:
        """Run a test after "Save and test"."""
        return self._test_after_save(request, obj) or super().response_change(request, obj)

    def _test_after_save(self, request: HttpRequest, interface: S3Interface) -> HttpResponse | None:
        if "_save_and_test" not in request.POST or not request.user.has_perm("delivery_s3.test_s3interface"):
            return None
        report = services.test_and_record(interface)
        diagnosis = report.diagnosis
        if diagnosis is None:
            self.message_user(request, f"Saved. The test passed: {report.object_key} is in the bucket.")
        else:
            self.message_user(
                request, f"Saved. The test failed: {diagnosis.title}. {diagnosis.remedy}", level=messages.ERROR
            )
        self._log_test(request, interface, report)
        return HttpResponseRedirect(reverse("admin:delivery_s3_s3interface_change", args=[interface.pk]))

    def _log_test(self, request: HttpRequest, interface: S3Interface, report: TestReport) -> None:
        self.log_change(request, interface, f"Tested: {report.diagnosis.title if report.diagnosis else 'passed'}.")

    # The Test.

    def test_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponseBase:
        """Test the values in the form. Stream one JSON object per line: one for each step, then one for the result.

        A user with permission to test but not to change tests the saved values.
        """
        interface = self._interface_to_test(request, pk)
        if interface is not None and not self.has_change_permission(request, interface):
            return self._stream(request, services.start_test(interface), interface, saved=True)
        form = self._bound_form(request, interface)
        if not form.is_valid():
            return render(request, "delivery_s3/test_form_errors.html", {"form": form}, status=422)
        unchanged = interface is not None and not set(form.changed_data) - {*FORM_ONLY, "write_manifests"}
        return self._stream(request, services.start_test(form.instance), form.instance, saved=unchanged)

    def _stream(
        self, request: HttpRequest, test: ConnectionTest, interface: S3Interface, *, saved: bool
    ) -> StreamingHttpResponse:
        def lines() -> Iterator[str]:
            try:
                for step in test.steps():
                    html = render_to_string("delivery_s3/test_step.html", {"step": step})
                    yield json.dumps({"html": html, "text": f"{step.title}: {step.outcome}"}) + "\n"
            except GeneratorExit:
                services.record_test(interface, None, saved=saved, request=request)
                raise
            report = test.report()
            services.record_test(interface, report, saved=saved, request=request)
            if saved:
                services.record_result(interface, report.as_json())
                self._log_test(request, interface, report)
            failed = queue.count_by_state([interface.pk])[interface.pk][State.FAILED] if interface.pk else 0
            context = {"report": report.as_json(), "failed_deliveries": failed, "saved": saved, "live": True}
            context["signed_report"] = "" if saved else services.sign_report(interface, report)
            html = render_to_string("delivery_s3/test_verdict.html", context)
            yield json.dumps({"verdict": html, "field": report.diagnosis.field if report.diagnosis else ""}) + "\n"

        return StreamingHttpResponse(lines(), content_type="application/x-ndjson")

    def remove_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Delete the test file from the bucket, if s3:DeleteObject is granted."""
        interface = self._interface_to_test(request, pk)
        form = self._bound_form(request, interface)
        if not form.is_valid() or (interface is not None and not self.has_change_permission(request, interface)):
            raise PermissionDenied
        key = request.POST.get("key", "")
        try:
            services.remove_test_file(form.instance, key)
        except ValueError as error:
            raise PermissionDenied from error
        except DeliveryError as error:
            return HttpResponse(
                format_html("Not removed: {}. You can leave the file in the bucket.", error.diagnosis.title)
            )
        if interface is not None:
            self.log_change(request, interface, f"Removed the test file {key}.")
        return HttpResponse(format_html("Removed <code>{}</code>.", key))

    def grants_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Show the permissions that the values in the form need. Makes no network requests."""
        interface = self._interface_to_test(request, pk)
        form = self._bound_form(request, interface)
        form.is_valid()  # copies the valid values to the instance, even if others have errors
        return render(request, "delivery_s3/grants.html", {"grants": _grants(form.instance)})

    def retry_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Retry the failed deliveries of the interface."""
        interface = self._interface_to_test(request, pk)
        if interface is None or not request.user.has_perm("deliveries.change_delivery"):
            raise PermissionDenied
        failed = list(Delivery.objects.filter(interface=interface, state=State.FAILED))
        count = queue.retry(failed)
        self.log_change(request, interface, f"Retried {count} failed deliveries.")
        tasks.request_delivery(interface.pk)
        return HttpResponse(f"Retried: {count_noun(count, 'delivery', 'deliveries')}.")

    def _interface_to_test(self, request: HttpRequest, pk: int | None) -> S3Interface | None:
        """Return the interface, or None for a new one. Raises PermissionDenied unless the user may test it by POST."""
        interface = self.get_object(request, str(pk)) if pk is not None else None
        allowed = request.method == "POST" and request.user.has_perm("delivery_s3.test_s3interface")
        if interface is None:
            allowed = allowed and pk is None and self.has_add_permission(request)
        else:
            allowed = allowed and self.has_view_permission(request, interface)
        if not allowed:
            raise PermissionDenied
        return interface

    def _bound_form(self, request: HttpRequest, interface: S3Interface | None) -> forms.ModelForm[S3Interface]:
        """Return the form with the posted values. A test of a new endpoint needs no confirmation `same_store`."""
        data = request.POST.copy()
        data["same_store"] = "on"
        return self.get_form(request, interface, change=interface is not None)(data, instance=interface)


def _url(name: str, interface: S3Interface | None) -> str:
    if interface is None:
        return reverse(f"admin:delivery_s3_s3interface_{name}_new")
    return reverse(f"admin:delivery_s3_s3interface_{name}", args=[interface.pk])


def _proof(interface: S3Interface) -> dict[str, Any]:
    """Return the template context of "Proof": the public key, the last manifest, the last immutability check."""
    try:
        key, problem = signing.current(), ""
    except signing.SigningProblem as error:
        key, problem = None, str(error)
    return {
        "key": key,
        "problem": problem,
        "last": interface.manifests.filter(written_at__isnull=False).order_by("sequence").last(),
        "grade": ProtectionGrade(interface.protection["grade"]).label if interface.protection else "",
        "protection": interface.protection,
    }


def _grants(interface: S3Interface) -> list[permissions.Grant]:
    return permissions.grants(
        bucket=interface.bucket_name,
        prefix=interface.key_prefix,
        object_lock=bool(interface.object_lock_mode),
        kms_key_id=interface.kms_key_id,
        role_arn=interface.role_arn,
    )
