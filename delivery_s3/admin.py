"""The configuration page of S3 interfaces: the form, and its Test.

The Test's views answer with pieces of the page or, as the test goes on, with one JSON object per line. They work on
what is in the form, saved or not, and save nothing, except that a test of the unchanged saved values is recorded.
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

from anaphora.admin_site import counted
from anaphora.deliveries import queue, tasks
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.interface_admin import InterfaceAdmin
from anaphora.deliveries.models import Delivery, State, diagnosis_of
from delivery_s3 import interfaces, permissions
from delivery_s3.connection_test.runner import DEADLINE, ConnectionTest, TestReport
from delivery_s3.connection_test.steps import STEPS
from delivery_s3.forms import S3InterfaceForm
from delivery_s3.models import S3Interface
from delivery_s3.providers import PROVIDERS

FORM_ONLY = {"allow_http", "same_store"}
"""Confirmations that the form asks for and nothing stores."""

UNTESTED = {*FORM_ONLY, "name", "enabled", "catalogue"}
"""Fields that a test doesn't bear on."""


@admin.register(S3Interface)
class S3InterfaceAdmin(InterfaceAdmin[S3Interface]):
    """The configuration page, with its Test."""

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
            "A role instead of keys, or assumed with them",
            {"classes": ["collapse"], "fields": ["credentials", "role_arn", "external_id"]},
        ),
        ("Object keys", {"classes": ["collapse"], "fields": ["key_prefix", "catalogue", "addressing_style"]}),
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

    # The form.

    def get_fieldsets(self, request: HttpRequest, obj: S3Interface | None = None) -> Any:
        """Leave out what only the form asks for, where there is no form."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in FORM_ONLY]})
            for title, options in fieldsets
        ]

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the Test and of what belongs to it."""
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
        """Show the page with its Test, and with what the last test of the saved settings found."""
        interface = self.get_object(request, object_id) if object_id else None
        context = {
            "may_test": request.user.has_perm("delivery_s3.test_s3interface"),
            "last_report": interface.test_report if interface else None,
            "sealed": request.POST.get("tested", ""),  # a refused save doesn't lose it
            "steps": [title for title, _, _ in STEPS],
            "seconds": DEADLINE,
            "urls": {name: _url(name, interface) for name in ("test", "remove", "grants", "retry")},
            "paused": interface if interface and interface.diagnosis else None,
            "pause_diagnosis": diagnosis_of(interface) if interface else None,
            "grants": _grants(interface or S3Interface()),
            "presets": {provider.code: provider.preset() for provider in PROVIDERS.values()},
        }
        return super().changeform_view(request, object_id, form_url, context | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: S3Interface, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save, and let what waited for better settings go."""
        if set(form.changed_data) & {"provider", "endpoint_url", "bucket_name"}:
            obj.capabilities = {}  # those were another store's
        super().save_model(request, obj, form, change)
        if report := interfaces.opened_report(obj, request.POST.get("tested", "")):
            interfaces.record(obj, report)
        elif change and set(form.changed_data) - UNTESTED:
            interfaces.forget_test(obj)

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
        report = interfaces.test_saved(interface)
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
        """Test what is in the form; answer with one JSON object per line as the steps end, and last the report.

        Whoever may test but not change gets a test of what is saved.
        """
        interface = self._checked(request, pk)
        if interface is not None and not self.has_change_permission(request, interface):
            return self._stream(request, interfaces.start_test(interface), interface, saved=True)
        form = self._form(request, interface)
        if not form.is_valid():
            return render(request, "delivery_s3/test_form_errors.html", {"form": form}, status=422)
        unchanged = interface is not None and not set(form.changed_data) - {*FORM_ONLY, "catalogue"}
        return self._stream(request, interfaces.start_test(form.instance), form.instance, saved=unchanged)

    def _stream(
        self, request: HttpRequest, test: ConnectionTest, interface: S3Interface, *, saved: bool
    ) -> StreamingHttpResponse:
        def lines() -> Iterator[str]:
            for step in test.steps():
                html = render_to_string("delivery_s3/test_step.html", {"step": step})
                yield json.dumps({"html": html, "text": f"{step.title}: {step.outcome}"}) + "\n"
            report = test.report()
            if saved:
                interfaces.record(interface, report.as_json())
                self._log_test(request, interface, report)
            failed = queue.count_by_state([interface.pk])[interface.pk][State.FAILED] if interface.pk else 0
            context = {"report": report.as_json(), "failed_deliveries": failed, "saved": saved, "live": True}
            context["sealed"] = "" if saved else interfaces.sealed_report(interface, report)
            html = render_to_string("delivery_s3/test_verdict.html", context)
            yield json.dumps({"verdict": html, "field": report.diagnosis.field if report.diagnosis else ""}) + "\n"

        return StreamingHttpResponse(lines(), content_type="application/x-ndjson")

    def remove_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Delete the test's file, where that is granted."""
        interface = self._checked(request, pk)
        form = self._form(request, interface)
        if not form.is_valid() or (interface is not None and not self.has_change_permission(request, interface)):
            raise PermissionDenied
        key = request.POST.get("key", "")
        try:
            interfaces.remove_test_file(form.instance, key)
        except ValueError as error:
            raise PermissionDenied from error
        except DeliveryError as error:
            return HttpResponse(format_html("Not removed: {}. The file may stay where it is.", error.diagnosis.title))
        if interface is not None:
            self.log_change(request, interface, f"Removed the test file {key}.")
        return HttpResponse(format_html("Removed <code>{}</code>.", key))

    def grants_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Show the permissions that what is in the form needs. Touches no network."""
        interface = self._checked(request, pk)
        form = self._form(request, interface)
        form.is_valid()  # what can be used is on the instance, whatever else is wrong
        return render(request, "delivery_s3/grants.html", {"grants": _grants(form.instance)})

    def retry_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Make the interface's failed deliveries due again."""
        interface = self._checked(request, pk)
        if interface is None or not request.user.has_perm("deliveries.change_delivery"):
            raise PermissionDenied
        failed = list(Delivery.objects.filter(interface=interface, state=State.FAILED))
        count = queue.retry(failed)
        self.log_change(request, interface, f"Retried {count} failed deliveries.")
        tasks.request_delivery(interface.pk)
        return HttpResponse(f"Due again: {counted(count, 'delivery', 'deliveries')}.")

    def _checked(self, request: HttpRequest, pk: int | None) -> S3Interface | None:
        """Return the interface, None for a new one. Only by POST, and only for whoever may test."""
        interface = self.get_object(request, str(pk)) if pk is not None else None
        allowed = request.method == "POST" and request.user.has_perm("delivery_s3.test_s3interface")
        if interface is None:
            allowed = allowed and pk is None and self.has_add_permission(request)
        else:
            allowed = allowed and self.has_view_permission(request, interface)
        if not allowed:
            raise PermissionDenied
        return interface

    def _form(self, request: HttpRequest, interface: S3Interface | None) -> forms.ModelForm[S3Interface]:
        """Return what is in the form, to be tried and not saved: another endpoint needs no confirmation for that."""
        tried = request.POST.copy()
        tried["same_store"] = "on"
        return self.get_form(request, interface, change=interface is not None)(tried, instance=interface)


def _url(name: str, interface: S3Interface | None) -> str:
    if interface is None:
        return reverse(f"admin:delivery_s3_s3interface_{name}_new")
    return reverse(f"admin:delivery_s3_s3interface_{name}", args=[interface.pk])


def _grants(interface: S3Interface) -> list[permissions.Grant]:
    return permissions.grants(
        bucket=interface.bucket_name,
        prefix=interface.key_prefix,
        object_lock=bool(interface.object_lock_mode),
        kms_key_id=interface.kms_key_id,
        role_arn=interface.role_arn,
    )
