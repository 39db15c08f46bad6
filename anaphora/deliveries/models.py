"""Interfaces, archive policies and deliveries, whatever the kind of destination; and the heartbeats of processes.

A kind of destination is an app with a child of `Interface` (see docs/development.md, "To add a destination").
"""

from collections.abc import Hashable
from datetime import datetime
from typing import Any, ClassVar

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule
from model_utils.managers import InheritanceManager

from anaphora.deliveries import manifest_models  # noqa: F401  # models of this app
from anaphora.deliveries.destinations import Destination, Integrity, Protection, open_destinations
from anaphora.deliveries.errors import DIAGNOSES, KIND_MISSING, DeliveryError, Diagnosis
from anaphora.reports.models import Dashboard, Report


class Interface(models.Model):
    """A reusable destination configuration: what all kinds share, what its last test found, and its condition.

    Each kind of destination is a child model that overrides `place`, `configuration()` and `open()`.

    After a failure that concerns all its reports (a bad key, no bucket, no network) an interface is paused:
    until `paused_until` no worker claims its deliveries. `failures` counts such failures in a row. `wakeup_sent_at` is
    when a message was sent that no worker has received yet.
    """

    needed_to_read: ClassVar[str] = ""
    """The permission needed to read a stored report, if archiving does not need it; otherwise empty."""
    needed_to_list: ClassVar[str] = ""
    """The permission needed to list the stored objects, likewise."""

    name = models.CharField(max_length=100, unique=True)
    key_prefix = models.CharField(
        max_length=255,
        blank=True,
        help_text="Put before every object key, for example reports/. Leave empty for none.",
    )
    write_manifests = models.BooleanField(
        "daily manifest",
        default=True,
        help_text="Each day, one signed object lists what was stored. With it, others can verify the archive.",
    )
    enabled = models.BooleanField(default=True, help_text="A disabled interface keeps its deliveries pending.")

    tested_at = models.DateTimeField(null=True, blank=True, editable=False)
    test_passed = models.BooleanField(null=True, editable=False)
    passed_at = models.DateTimeField(null=True, blank=True, editable=False)
    test_report = models.JSONField(default=dict, blank=True, editable=False)
    capabilities = models.JSONField(default=dict, blank=True, editable=False)

    failures = models.PositiveIntegerField(default=0, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    diagnosis = models.CharField(max_length=40, blank=True, editable=False)
    detail = models.TextField(blank=True, editable=False)
    wakeup_sent_at = models.DateTimeField(null=True, blank=True, editable=False)
    protection = models.JSONField(default=dict, blank=True, editable=False)
    """The result of the last immutability check, in the form of `destinations.Protection.as_json()`."""

    objects: ClassVar[Any] = InheritanceManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def place(self) -> str:
        """Where it stores reports, in words: bucket and endpoint, or the equivalent of another kind."""
        return ""

    @property
    def container(self) -> str:
        """The name of the bucket, or the equivalent of another kind."""
        return ""

    @property
    def retention(self) -> str:
        """The Object Lock mode and the days that each object is locked, in words; empty if there is none."""
        return ""

    def configuration(self) -> Hashable:
        """Return every value that a destination depends on. Raises DeliveryError if one of them is unusable."""
        raise DeliveryError(KIND_MISSING, f"{self.name} is of no installed kind")

    def open(self) -> Destination:
        """Make the destination of the present configuration. Raises DeliveryError."""
        raise DeliveryError(KIND_MISSING, f"{self.name} is of no installed kind")

    def test(self) -> bool | None:
        """Test the saved values and record the result; return whether the test passed.

        Returns None if the kind has no test. Kinds that have one override this.
        """
        return None

    def check_protection(self, now: datetime) -> Protection | None:
        """Check what somebody with this interface's key could do to a report.

        The check attacks an object of its own, never a report. `now` is aware. Returns None if the kind has no such
        check. Kinds that have one override this. Raises DeliveryError.
        """
        return None

    def child(self) -> "Interface":
        """Return this interface as an instance of its kind's model."""
        if type(self) is not Interface:
            return self
        child: Interface = Interface.objects.get_subclass(pk=self.pk)
        return child

    def destination(self) -> Destination:
        """Return the interface's destination, cached in this process until the configuration changes.

        Raises DeliveryError.
        """
        child = self.child()
        return open_destinations.get(self.pk, child.configuration(), child.open)

    @property
    def admin_url(self) -> str:
        """The URL of its configuration page; empty if its kind is not installed."""
        opts = self.child()._meta
        if opts.model is Interface:
            return ""
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[self.pk])


def kinds() -> list[type[Interface]]:
    """Return the models of the installed kinds of destination."""
    return [model for model in apps.get_models() if issubclass(model, Interface) and model is not Interface]


def may(user: Any, action: str, kind: type[Interface]) -> bool:
    """Return whether a user has Django's permission `action` (view, add, change, delete) for a kind of interface."""
    allowed: bool = user.has_perm(f"{kind._meta.app_label}.{get_permission_codename(action, kind._meta)}")
    return allowed


class ArchivePolicy(models.Model):
    """Which dashboards' reports go to which interface, and when.

    `ran_at` is the time of the last scheduled run that was made. It starts anew for a new schedule and for a policy
    that is enabled again, so that runs before are not made up for.
    """

    name = models.CharField(max_length=100, unique=True)
    interface = models.ForeignKey(Interface, on_delete=models.PROTECT, related_name="policies")
    dashboards = models.ManyToManyField(Dashboard, blank=True, help_text="None chosen: all dashboards.")
    schedule = models.ForeignKey(
        CrontabSchedule,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        help_text="When to archive what has come in since. Empty: as soon as rendered.",
    )
    enabled = models.BooleanField(default=True)
    ran_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "archive policies"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save. If the schedule is new, or the policy was disabled, runs before now are not made up for."""
        if self.pk and self.enabled and self.schedule_id:
            ran = ArchivePolicy.objects.filter(pk=self.pk, enabled=True, schedule=self.schedule_id)
            if not ran.exists():
                self.ran_at = timezone.now()
        super().save(*args, **kwargs)


class State(models.TextChoices):
    """The states of a delivery; see Delivery."""

    PENDING = "pending", "pending"
    SENDING = "sending", "sending"
    DELIVERED = "delivered", "delivered"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


class Priority(models.IntegerChoices):
    """The order in which due deliveries are claimed."""

    FRESH = 0, "fresh"
    BACKFILL = 1, "backfill"


class Delivery(models.Model):
    """One report on its way to one interface: the work queue, the state and, once delivered, the receipt.

        pending ──claim──> sending ──> delivered          (final)
           ^                  │ ├────> failed             (an administrator must act, then retry)
           └── retryable ─────┘ └─ lease ran out ─> pending

        pending or failed ──administrator cancels──> cancelled   (kept as a trace; a backfill makes it pending again)

    Only `queue`, `outcomes` and, for a backfill, `policies` change a state. A process that sets `sending` writes a
    lease into the row, and may write the outcome only while the row still has this lease.
    """

    # The unique constraint has an index that begins with the report, and `delivery_by_state` begins with the interface.
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    interface = models.ForeignKey(Interface, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.FRESH)
    attempts = models.PositiveIntegerField(
        "failed attempts", default=0, help_text="Uploads that failed for this report's own sake."
    )
    due_at = models.DateTimeField(default=timezone.now)
    leased_until = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True)
    diagnosis = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)

    object_key = models.CharField(max_length=1024, blank=True)
    version_id = models.CharField("version ID", max_length=1024, blank=True)
    etag = models.CharField("ETag", max_length=255, blank=True)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    size = models.PositiveBigIntegerField(null=True, blank=True)
    integrity = models.CharField(max_length=10, blank=True, choices=Integrity.choices)
    retain_until = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    # The only part of a receipt that is set later, and once. Its index is partial, so it does not slow down the queue.
    manifest = models.ForeignKey(
        "deliveries.Manifest",
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        db_index=False,
        related_name="deliveries",
    )

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["report", "interface"], name="delivery_is_unique"),
            models.CheckConstraint(
                name="delivery_delivered_has_receipt",
                condition=~models.Q(state=State.DELIVERED)
                | (models.Q(delivered_at__isnull=False, size__isnull=False) & ~models.Q(object_key="")),
            ),
            models.CheckConstraint(
                name="delivery_sending_has_lease",
                condition=models.Q(state=State.SENDING, lease__isnull=False, leased_until__isnull=False)
                | (~models.Q(state=State.SENDING) & models.Q(lease__isnull=True, leased_until__isnull=True)),
            ),
        ]
        indexes = [
            models.Index(
                fields=["interface", "priority", "due_at"],
                condition=models.Q(state=State.PENDING),
                name="delivery_due",
            ),
            models.Index(fields=["-id"], condition=models.Q(state=State.FAILED), name="delivery_failed"),
            models.Index(fields=["leased_until"], condition=models.Q(state=State.SENDING), name="delivery_leased"),
            models.Index(fields=["interface", "state"], name="delivery_by_state"),
            models.Index(
                fields=["interface", "delivered_at"],
                condition=models.Q(state=State.DELIVERED),
                name="delivery_delivered",
            ),
            models.Index(
                fields=["interface", "delivered_at"],
                condition=models.Q(state=State.DELIVERED, manifest__isnull=True),
                name="delivery_unlisted",
            ),
            models.Index(
                fields=["manifest", "id"], condition=models.Q(manifest__isnull=False), name="delivery_by_manifest"
            ),
            models.Index(fields=["report"], condition=models.Q(state=State.DELIVERED), name="delivery_archived"),
        ]

    def __str__(self) -> str:
        return f"{self.report} → {self.interface}"

    @property
    def summary(self) -> str:
        """The object's key once it is stored, otherwise the title of the problem, if there is one."""
        diagnosis = diagnosis_of(self)
        return diagnosis.title if diagnosis else self.object_key

    @property
    def admin_url(self) -> str:
        """The delivery's page."""
        return reverse("admin:deliveries_delivery_change", args=[self.pk])


class Role(models.TextChoices):
    """The role of a process of the installation."""

    WEB = "web", "web server"
    WORKER = "worker", "worker"
    BEAT = "beat", "beat"


class Heartbeat(models.Model):
    """When a process of a role was last seen on a machine; `heartbeat` writes and reads it."""

    role = models.CharField(max_length=10, choices=Role.choices)
    host = models.CharField(max_length=255)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["role", "host"], name="heartbeat_is_unique")]

    def __str__(self) -> str:
        return f"{self.role} on {self.host}"


@receiver(pre_delete, sender=Delivery)
def keep_receipts(instance: Delivery, **kwargs: Any) -> None:
    """Refuse to delete a delivered row: it is a receipt. Its report and its interface are protected by it."""
    if instance.state == State.DELIVERED:
        raise models.ProtectedError("A delivered delivery is a receipt and can't be deleted.", {instance})


def with_interfaces() -> "models.Prefetch[Any]":
    """Return a Prefetch of reports' deliveries with their interfaces, ordered by interface name."""
    return models.Prefetch("deliveries", Delivery.objects.select_related("interface").order_by("interface__name"))


def remember_created(report: Report, deliveries: "list[Delivery]") -> None:
    """Keep the deliveries that were created with a report, for `deliveries_of()` of this instance."""
    report.created_deliveries = deliveries  # type: ignore[attr-defined]


def deliveries_of(report: Report) -> "list[Delivery]":
    """Return a report's deliveries, ordered by interface name.

    Runs no query if this instance was just ingested or `with_interfaces()` was prefetched.
    """
    created: list[Delivery] | None = getattr(report, "created_deliveries", None)
    if created is None:
        models.prefetch_related_objects([report], with_interfaces())
        return list(report.deliveries.all())
    return sorted(created, key=lambda delivery: delivery.interface.name)


def diagnosis_of(row: Interface | Delivery) -> Diagnosis | None:
    """Return the diagnosis of what last went wrong with this row, or None."""
    return DIAGNOSES.get(row.diagnosis) if row.diagnosis else None
