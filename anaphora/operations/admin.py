"""Admin pages for operation: alert channels, past alerts, expectations of dashboards, lockouts, periodic tasks."""

from typing import Any

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask

from anaphora.admin_site import ReadOnlyAdmin, badge
from anaphora.deliveries.schedule_field import ScheduleField, ScheduleForm
from anaphora.operations import audit_admin, channels
from anaphora.operations.models import Alert, AlertChannel, ChannelKind, Expectation
from anaphora.reports.admin import DashboardAdmin
from anaphora.reports.models import Dashboard
from anaphora.secret import Secret, UnreadableSecret
from anaphora.secret_fields import SecretInput

__all__ = ["audit_admin"]  # importing it registers its page


class AlertChannelForm(forms.ModelForm[AlertChannel]):
    """The form of a channel. The stored service URL is never shown; an empty field leaves it unchanged."""

    url = forms.CharField(
        label="Service URL",
        required=False,
        widget=SecretInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text="For another service: its Apprise URL, such as slack://…, msteams://… or jsons://host/path. "
        "Stored encrypted and never shown. Leave empty to keep the stored URL.",
    )

    class Meta:
        model = AlertChannel
        fields = ["name", "kind", "recipients", "url", "enabled"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("url", None)

    def clean_recipients(self) -> str:
        """Check that these are mail addresses."""
        try:
            return ", ".join(channels.addresses(self.cleaned_data["recipients"]))
        except ValidationError as error:
            raise ValidationError("Enter mail addresses, separated by commas.") from error

    def clean_url(self) -> Secret:
        """Keep the stored URL if the field is empty."""
        typed: str = self.cleaned_data["url"].strip()
        if typed:
            return Secret(typed)
        stored: Secret = self.instance.url or Secret("")
        return stored

    def clean(self) -> dict[str, Any]:
        """Check that the field that the kind of channel requires is filled in."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        kind, url = values.get("kind"), values.get("url")
        if kind == ChannelKind.MAIL and not values.get("recipients") and "recipients" not in self.errors:
            self.add_error("recipients", "Enter at least one mail address.")
        if kind == ChannelKind.APPRISE and not url and not isinstance(url, UnreadableSecret):
            self.add_error("url", "Enter the service's Apprise URL.")
        return values


@admin.register(AlertChannel)
class AlertChannelAdmin(admin.ModelAdmin[AlertChannel]):
    """Alert channels, with a button that sends a test alert."""

    form = AlertChannelForm
    list_display = ["name", "kind", "condition", "sent_at", "enabled"]
    search_fields = ["name"]
    change_form_template = "operations/channel.html"
    fields = ["name", "kind", "recipients", "url", "enabled"]

    def get_urls(self) -> list[URLPattern]:
        """Add the URL of the test."""
        view = self.admin_site.admin_view(self.test_view)
        return [path("<int:pk>/test/", view, name="operations_alertchannel_test"), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save, and clear the last error, because it occurred with other settings."""
        if form.changed_data:
            obj.error, obj.failed_at = "", None
        super().save_model(request, obj, form, change)

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test alert through the saved channel."""
        channel = self.get_object(request, str(pk))
        if channel is None or request.method != "POST" or not self.has_change_permission(request, channel):
            raise PermissionDenied
        if channels.send_test(channel):
            messages.success(request, f"The test alert was sent through {channel}.")
        else:
            messages.error(request, f"The test alert was not sent. {channel.error}")
        self.log_change(request, channel, "Sent a test alert.")
        return HttpResponseRedirect(reverse("admin:operations_alertchannel_change", args=[pk]))

    @admin.display(description="condition")
    def condition(self, channel: AlertChannel) -> SafeString:
        """Show whether the last message was delivered."""
        if channel.error:
            return badge("failed", "failing", title=channel.error)
        return badge("delivered", "working") if channel.sent_at else badge("never", "nothing sent yet")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin[Alert]):
    """Present and past alerts, each with the times when it began and ended."""

    list_display = ["title", "began_at", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter)]
    search_fields = ["title", "text"]
    show_full_result_count = False
    fieldsets = [(None, {"fields": ["title", "text", "began_at", "ended_at"]})]


class ExpectationForm(ScheduleForm[Expectation]):
    """The form of an expectation."""

    schedule = ScheduleField(empty="No fixed times: at least every … hours", label="Expected")

    class Meta:
        model = Expectation
        fields = ["schedule", "every_hours", "grace_minutes"]


class ExpectationInline(admin.StackedInline[Expectation, Dashboard]):
    """The expectation of a dashboard, on the dashboard's page."""

    model = Expectation
    form = ExpectationForm
    verbose_name = verbose_name_plural = "expected reports"
    readonly_fields = ["expected"]
    extra = 0

    def get_fields(self, request: HttpRequest, obj: Dashboard | None = None) -> Any:
        """Show the expectation in words to users who may not change it."""
        may_edit = self.has_change_permission(request, obj) or self.has_add_permission(request, obj)
        return ["schedule", "every_hours", "grace_minutes"] if may_edit else ["expected", "grace_minutes"]

    @admin.display(description="expected")
    def expected(self, expectation: Expectation) -> str:
        """Return the expectation in words."""
        return str(expectation)


class WatchedDashboardAdmin(DashboardAdmin):
    """The page of a dashboard, with its expectation."""

    inlines = [ExpectationInline]

    def get_inline_instances(self, request: HttpRequest, obj: Dashboard | None = None) -> Any:
        """Keep the expectation if a request lacks its form, for example one from a script."""
        if request.method == "POST" and "expectation-TOTAL_FORMS" not in request.POST:
            return []
        return super().get_inline_instances(request, obj)


admin.site.unregister(Dashboard)
admin.site.register(Dashboard, WatchedDashboardAdmin)


class LockoutAdmin(AccessAttemptAdmin):  # type: ignore[misc]
    """Lockouts, which administrators may end by deleting them."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Log each deletion separately: bulk_create, which Django uses here, sends no signal to the audit trail."""
        return [entry for row in queryset for entry in super(LockoutAdmin, self).log_deletions(request, [row])]


admin.site.unregister(AccessAttempt)
admin.site.register(AccessAttempt, LockoutAdmin)

OURS = frozenset(settings.CELERY_BEAT_SCHEDULE) | {"celery.backend_cleanup"}
"""Periodic tasks defined by the settings. Beat resets them at each start."""


class OtherPeriodicTaskAdmin(PeriodicTaskAdmin):  # type: ignore[misc]
    """Periodic tasks. Those of the product are read-only, because beat resets them at each start."""

    def has_change_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not allowed for tasks of the product."""
        return super().has_change_permission(request, obj) and not (obj and obj.name in OURS)

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not allowed for tasks of the product."""
        return super().has_delete_permission(request, obj) and not (obj and obj.name in OURS)

    def get_actions(self, request: HttpRequest) -> Any:
        """No actions, because they would also change tasks of the product."""
        return {}


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, OtherPeriodicTaskAdmin)
