"""The models of operation: totals for charts and metrics, expectations of dashboards, alerts and their channels."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from anaphora.deliveries import schedules
from anaphora.deliveries.models import Interface
from anaphora.operations import audit_models  # noqa: F401  # models of this app
from anaphora.reports.models import Dashboard
from anaphora.secret_fields import SecretField


class Installation(models.Model):
    """The single row with values of the whole installation. `get()` returns it."""

    counted_at = models.DateTimeField(null=True, editable=False)
    """When the daily totals were last recounted."""
    alerts_checked_at = models.DateTimeField(null=True, editable=False)
    first_steps_done_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return "installation"

    @classmethod
    def get(cls) -> "Installation":
        """Return the row; create it if necessary."""
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def claim(cls, field: str, *, before: datetime) -> bool:
        """Set `field` to now if it is empty or earlier than `before`; return whether this process did."""
        cls.get()
        free = models.Q(**{f"{field}__isnull": True}) | models.Q(**{f"{field}__lt": before})
        # A time in the future was written while a clock was ahead.
        free |= models.Q(**{f"{field}__gt": timezone.now() + timedelta(seconds=60)})
        return bool(cls.objects.filter(free, pk=1).update(**{field: timezone.now()}))


class ReadyGroup(models.Model):
    """A ready group of `roles`, and the permissions that it has been given.

    `group` is empty if an administrator deleted the group, or if another group already had its name.
    """

    role = models.CharField(max_length=150, unique=True)
    group = models.OneToOneField(Group, on_delete=models.SET_NULL, null=True, related_name="+")
    given = models.JSONField(default=list)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.role


class OidcAccount(models.Model):
    """Links a user to the subject of an OpenID Connect provider. Users without a row sign in by password."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="+")
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="oidc_account_is_unique")]

    def __str__(self) -> str:
        return f"{self.user} by {self.issuer}"


# Totals.


class DailyTotal(models.Model):
    """The totals of one interface on one UTC day, so that pages need not count the deliveries."""

    interface = models.ForeignKey(Interface, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    reports = models.PositiveBigIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    """Deliveries that became `failed` on that day, whether retried since or not."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["interface", "day"], name="daily_total_is_unique")]

    def __str__(self) -> str:
        return f"{self.interface_id} on {self.day}"


class UploadDuration(models.Model):
    """The number of uploads to an interface that took up to `bound` seconds, and more than the next smaller bound."""

    interface = models.ForeignKey(Interface, on_delete=models.CASCADE, related_name="+")
    bound = models.FloatField()
    uploads = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["interface", "bound"], name="upload_duration_is_unique")]

    def __str__(self) -> str:
        return f"{self.interface_id} up to {self.bound} s"


class FailureTotal(models.Model):
    """How often uploads to an interface failed with a diagnosis. Each attempt counts."""

    interface = models.ForeignKey(Interface, on_delete=models.CASCADE, related_name="+")
    diagnosis = models.CharField(max_length=40)
    failures = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["interface", "diagnosis"], name="failure_total_is_unique")]

    def __str__(self) -> str:
        return f"{self.interface_id}: {self.diagnosis}"


class Verification(models.Model):
    """The result of the last verification of an interface's receipts and manifests."""

    interface = models.OneToOneField(Interface, on_delete=models.CASCADE, related_name="+")
    verified_at = models.DateTimeField()
    checked = models.PositiveBigIntegerField()
    different = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return f"{self.different} of {self.checked} differ"

    @classmethod
    def note(cls, interface_id: int, *, checked: int, different: int) -> None:
        """Store the result of a verification."""
        found = {"verified_at": timezone.now(), "checked": checked, "different": different}
        cls.objects.update_or_create(interface_id=interface_id, defaults=found)


# Late dashboards.


class Expectation(models.Model):
    """How often a dashboard's reports are expected: by a crontab, or by a maximum number of hours."""

    dashboard = models.OneToOneField(Dashboard, on_delete=models.CASCADE, related_name="expectation")
    schedule = models.ForeignKey(
        CrontabSchedule,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        help_text="When a report is expected, in the time zone of the schedule.",
    )
    every_hours = models.PositiveIntegerField(
        "at least every",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 366)],
        help_text="Hours between two reports, instead of a schedule.",
    )
    grace_minutes = models.PositiveIntegerField(
        "grace",
        default=60,
        validators=[MaxValueValidator(60 * 24 * 31)],
        help_text="Minutes that a report may be late before the dashboard counts as late.",
    )
    since = models.DateTimeField(default=timezone.now, editable=False)
    """No report is expected before this instant."""

    def __str__(self) -> str:
        if self.schedule:
            return schedules.describe(self.schedule)
        return f"at least every {self.every_hours} hours"

    def clean(self) -> None:
        """Check that either a schedule or hours are set, not both."""
        if (self.schedule is None) == (self.every_hours is None):
            raise ValidationError("Choose a schedule, or enter the hours between two reports, but not both.")


# Alerts.


class ChannelKind(models.TextChoices):
    """The kinds of alert channels."""

    MAIL = "mail", "mail"
    APPRISE = "apprise", "another service (Apprise)"


class AlertChannel(models.Model):
    """Where alerts are sent. `error` says why the last message was not sent; empty if it was."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=ChannelKind.choices, default=ChannelKind.MAIL)
    recipients = models.TextField(
        blank=True, help_text="For mail: addresses, separated by commas. The server is set by EMAIL_URL."
    )
    url = SecretField(
        "service URL",
        blank=True,
        default="",
        help_text="For another service: its Apprise URL, such as slack://…, msteams://… or json://host/path.",
    )
    enabled = models.BooleanField(default=True)

    error = models.TextField(blank=True, editable=False)
    failed_at = models.DateTimeField(null=True, editable=False)
    sent_at = models.DateTimeField(null=True, editable=False)
    claimed_until = models.DateTimeField(null=True, editable=False)
    """Until then, only the process that set it sends through this channel."""

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """A problem, from the time it was noticed until it was over.

    `key` names the condition and what it is about, such as `interface:3`; at most one alert of a key is open.
    """

    key = models.CharField(max_length=100)
    title = models.CharField(max_length=300)
    text = models.TextField(blank=True)
    path = models.CharField(max_length=300, blank=True)
    """The path of the page on which to solve it."""
    began_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-began_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(ended_at__isnull=True), name="one_open_alert_of_a_key"
            )
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["ended_at"], name="alert_by_end")]

    def __str__(self) -> str:
        return self.title


class Notice(models.Model):
    """The messages that a channel has been sent about an alert. Created when the first one is due."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notices")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="notices")
    told_at = models.DateTimeField(null=True)
    """When the channel was last notified that the alert is open."""
    closed_at = models.DateTimeField(null=True)
    """When the channel was notified that the alert is over."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["alert", "channel"], name="notice_is_unique")]

    def __str__(self) -> str:
        return f"{self.alert} to {self.channel}"
