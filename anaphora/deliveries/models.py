"""The archive policies, which say what goes where; the deliveries: queue, state and receipt in one row each; and
when the processes that deliver were last seen."""

from typing import Any

from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from anaphora.deliveries.destinations import Integrity
from anaphora.reports.models import Dashboard, Report
from delivery_s3.diagnoses import CATALOGUE, Diagnosis
from delivery_s3.models import S3Interface


class ArchivePolicy(models.Model):
    """Which dashboards' reports go to which interface, and when.

    `ran_at` is the scheduled instant up to which its schedule has been kept.
    """

    name = models.CharField(max_length=100, unique=True)
    interface = models.ForeignKey(S3Interface, on_delete=models.PROTECT, related_name="policies")
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


class State(models.TextChoices):
    """The states of a delivery; see Delivery."""

    PENDING = "pending", "pending"
    SENDING = "sending", "sending"
    DELIVERED = "delivered", "delivered"
    FAILED = "failed", "failed"


class Priority(models.IntegerChoices):
    """What is claimed first."""

    FRESH = 0, "fresh"
    BACKFILL = 1, "backfill"


class Delivery(models.Model):
    """One report on its way to one interface: the work queue, the state and, once delivered, the receipt.

        pending ──claim──> sending ──> delivered          (final)
           ^                  │ ├────> failed             (an administrator must act, then retry)
           └── retryable ─────┘ └─ lease ran out ─> pending

    Only `engine` and `queue` move a state. Whoever sets `sending` writes a lease, and may write the outcome only
    while the row still bears it.
    """

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="+")
    interface = models.ForeignKey(S3Interface, on_delete=models.PROTECT, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.FRESH)
    attempts = models.PositiveIntegerField(default=0, help_text="Uploads that failed for this report's own sake.")
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
            models.Index(fields=["leased_until"], condition=models.Q(state=State.SENDING), name="delivery_leased"),
            models.Index(fields=["interface", "state"], name="delivery_by_state"),
            models.Index(
                fields=["interface", "delivered_at"],
                condition=models.Q(state=State.DELIVERED),
                name="delivery_delivered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.report} → {self.interface}"


class Role(models.TextChoices):
    """What a process does that must run for anything to be delivered."""

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


def diagnosis_of(row: S3Interface | Delivery) -> Diagnosis | None:
    """Return the catalogue's entry for what last went wrong with this row, or None."""
    return CATALOGUE.get(row.diagnosis) if row.diagnosis else None
