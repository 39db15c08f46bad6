"""The administrator's pages of operation: alert channels, past alerts, what is expected of dashboards, beat's tasks."""

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
    """A channel; the stored service URL never reaches the page, and left empty it stays."""

    url = forms.CharField(
        label="Service URL",
        required=False,
        widget=SecretInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text="For another service: its Apprise URL, such as slack://…, msteams://… or jsons://host/path. "
        "Stored encrypted and never shown. Empty: stays as it is.",
    )

    class Meta:
        model = AlertChannel
        fields = ["name", "kind", "recipients", "url", "enabled"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("url", None)

    def clean_recipients(self) -> str:
        """Take mail addresses."""
        try:
            return ", ".join(channels.addresses(self.cleaned_data["recipients"]))
        except ValidationError as error:
            raise ValidationError("Enter mail addresses, separated by commas.") from error

    def clean_url(self) -> Secret:
        """Keep the stored URL where the field is empty."""
        typed: str = self.cleaned_data["url"].strip()
        if typed:
            return Secret(typed)
        stored: Secret = self.instance.url or Secret("")
        return stored

    def clean(self) -> dict[str, Any]:
        """Check that the channel has what its kind needs."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        kind, url = values.get("kind"), values.get("url")
        if kind == ChannelKind.MAIL and not values.get("recipients") and "recipients" not in self.errors:
            self.add_error("recipients", "Enter at least one mail address.")
        if kind == ChannelKind.APPRISE and not url and not isinstance(url, UnreadableSecret):
            self.add_error("url", "Enter the service's Apprise URL.")
        return values


@admin.register(AlertChannel)
class AlertChannelAdmin(admin.ModelAdmin[AlertChannel]):
    """Where alerts go, with a test."""

    form = AlertChannelForm
    list_display = ["name", "kind", "condition", "sent_at", "enabled"]
    search_fields = ["name"]
    change_form_template = "operations/channel.html"
    fields = ["name", "kind", "recipients", "url", "enabled"]

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the test."""
        view = self.admin_site.admin_view(self.test_view)
        return [path("<int:pk>/test/", view, name="operations_alertchannel_test"), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save; what failed before failed with other settings."""
        if form.changed_data:
            obj.error, obj.failed_at = "", None
        super().save_model(request, obj, form, change)

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send a test alert by the saved channel."""
        channel = self.get_object(request, str(pk))
        if channel is None or request.method != "POST" or not self.has_change_permission(request, channel):
            raise PermissionDenied
        if channels.send_test(channel):
            messages.success(request, f"The test alert was sent by {channel}.")
        else:
            messages.error(request, f"The test alert was not sent. {channel.error}")
        self.log_change(request, channel, "Sent a test alert.")
        return HttpResponseRedirect(reverse("admin:operations_alertchannel_change", args=[pk]))

    @admin.display(description="condition")
    def condition(self, channel: AlertChannel) -> SafeString:
        """Show whether the last message arrived."""
        if channel.error:
            return badge("failed", "failing", title=channel.error)
        return badge("delivered", "working") if channel.sent_at else badge("never", "nothing sent yet")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin[Alert]):
    """What needed a hand, and from when until when."""

    list_display = ["title", "began_at", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter)]
    search_fields = ["title", "text"]
    show_full_result_count = False
    fieldsets = [(None, {"fields": ["title", "text", "began_at", "ended_at"]})]


class ExpectationForm(ScheduleForm[Expectation]):
    """What is expected of a dashboard."""

    schedule = ScheduleField(empty="No fixed times: at least every so many hours", label="Expected")

    class Meta:
        model = Expectation
        fields = ["schedule", "every_hours", "grace_minutes"]


class ExpectationInline(admin.StackedInline[Expectation, Dashboard]):
    """What is expected of a dashboard, on the dashboard's page."""

    model = Expectation
    form = ExpectationForm
    verbose_name = verbose_name_plural = "expected reports"
    readonly_fields = ["expected"]
    extra = 0

    def get_fields(self, request: HttpRequest, obj: Dashboard | None = None) -> Any:
        """Show in words what is expected to those who may not change it."""
        may_edit = self.has_change_permission(request, obj) or self.has_add_permission(request, obj)
        return ["schedule", "every_hours", "grace_minutes"] if may_edit else ["expected", "grace_minutes"]

    @admin.display(description="expected")
    def expected(self, expectation: Expectation) -> str:
        """Say what is expected."""
        return str(expectation)


class WatchedDashboardAdmin(DashboardAdmin):
    """The page of a dashboard, with what is expected of it."""

    inlines = [ExpectationInline]

    def get_inline_instances(self, request: HttpRequest, obj: Dashboard | None = None) -> Any:
        """Leave expectations alone where a form comes without them, as from a script that knows the dashboard only."""
        if request.method == "POST" and "expectation-TOTAL_FORMS" not in request.POST:
            return []
        return super().get_inline_instances(request, obj)


admin.site.unregister(Dashboard)
admin.site.register(Dashboard, WatchedDashboardAdmin)


class LockoutAdmin(AccessAttemptAdmin):  # type: ignore[misc]
    """Lockouts, which administrators may end by deleting them."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Log each by itself: of entries that Django writes at once, the audit trail is not told."""
        return [entry for row in queryset for entry in super(LockoutAdmin, self).log_deletions(request, [row])]


admin.site.unregister(AccessAttempt)
admin.site.register(AccessAttempt, LockoutAdmin)

OURS = frozenset(settings.CELERY_BEAT_SCHEDULE) | {"celery.backend_cleanup"}
"""Beat's tasks that the settings define, and that beat writes anew at each start."""


class OtherPeriodicTaskAdmin(PeriodicTaskAdmin):  # type: ignore[misc]
    """Beat's tasks. The product's own can be looked at only: what is changed here beat would undo."""

    def has_change_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not those of the product."""
        return super().has_change_permission(request, obj) and not (obj and obj.name in OURS)

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """Not those of the product."""
        return super().has_delete_permission(request, obj) and not (obj and obj.name in OURS)

    def get_actions(self, request: HttpRequest) -> Any:
        """None: they would reach the product's own tasks, too."""
        return {}


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, OtherPeriodicTaskAdmin)
