"""Dashboards and their reports."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.validators import validate_slug
from django.db import models
from django.utils import timezone

from anaphora.reports import content_types


def local_store() -> FileSystemStorage:
    """Return the storage of the local copies. It is private: no URL serves it."""
    return FileSystemStorage(location=settings.DATA_DIR / "reports", base_url=None)


def local_location() -> str:
    """Return the folder of the local copies."""
    storage = Report._meta.get_field("file").storage
    assert isinstance(storage, FileSystemStorage)
    return str(storage.location)


def local_name(dashboard: str, rendered_at: datetime, report_id: uuid.UUID, suffix: str) -> str:
    """Return the name of a local copy in the local store. The validated slug is its only external part."""
    return f"{dashboard}/{rendered_at.astimezone(UTC):%Y/%m}/{report_id}{suffix}"


def preview_path(report_id: uuid.UUID) -> Path:
    """Return the path of a report's preview, whether it exists or not."""
    name = str(report_id)
    return Path(settings.DATA_DIR, "previews", name[:2], f"{name}.webp")


def describe(dashboard: str, rendered_at: datetime) -> str:
    """Return a report in words, by its dashboard's slug."""
    return f"{dashboard} {rendered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class Dashboard(models.Model):
    """The subject of reports. The slug identifies it and never changes, because object keys contain it."""

    slug = models.CharField(
        max_length=100,
        unique=True,
        validators=[validate_slug],
        help_text="Letters, digits, hyphens and underscores. Part of every object key.",
    )
    title = models.CharField(max_length=200, blank=True, help_text="Name shown on pages. If empty, the slug is shown.")

    keep_local_days = models.PositiveIntegerField(
        "keep local copies",
        null=True,
        blank=True,
        help_text="Days after delivery, after which housekeeping removes safely archived local copies. "
        "Leave empty to keep local copies forever.",
    )

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.title or self.slug


READ = "reports.read_report"
"""The permission to read what reports contain: files, pages, previews, comparisons and evidence. `view_report` allows
to see which reports there are."""


class Preview(models.TextChoices):
    """Whether a report has a preview."""

    WAITING = "waiting", "not created yet"
    MADE = "made", "created"
    NONE = "none", "not possible"


class Report(models.Model):
    """One rendered file of one dashboard at one instant, with the digests computed during ingest.

    `rendered_at` is in UTC with whole seconds, as in the object key. Dashboard, instant and content identify a report.
    Only `ingest()` and `rebuild` create rows.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # The unique constraint has an index that begins with the dashboard.
    dashboard = models.ForeignKey(Dashboard, on_delete=models.PROTECT, related_name="reports", db_index=False)
    rendered_at = models.DateTimeField()
    filename = models.CharField("file name", max_length=255, help_text="The original file name, without folder.")
    content_type = models.CharField(max_length=127)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    sha256 = models.CharField("SHA-256", max_length=64, help_text="Hexadecimal.")
    md5 = models.CharField("MD5", max_length=32, help_text="Hexadecimal.")
    file = models.FileField("local copy", storage=local_store, max_length=255, blank=True)
    ingested_at = models.DateTimeField(default=timezone.now)
    pages = models.PositiveIntegerField(default=0, editable=False, help_text="Number of pages; 0 if not known yet.")
    preview = models.CharField(max_length=10, choices=Preview.choices, default=Preview.WAITING, editable=False)

    class Meta:
        ordering = ["-rendered_at", "dashboard"]
        permissions = [("read_report", "Can read the content of reports")]
        constraints = [
            models.UniqueConstraint(fields=["dashboard", "rendered_at", "sha256"], name="report_is_unique"),
        ]
        indexes = [
            models.Index(fields=["-rendered_at"], name="report_by_time"),
            models.Index(fields=["dashboard", "content_type", "-rendered_at"], name="report_by_format"),
            models.Index(
                fields=["ingested_at"],
                condition=models.Q(preview="waiting", content_type__in=sorted(content_types.PREVIEWABLE)),
                name="report_to_preview",
            ),
        ]

    def __str__(self) -> str:
        return describe(self.dashboard.slug, self.rendered_at)

    @property
    def previewable(self) -> bool:
        """Whether the report has a preview, or one can be created."""
        return self.content_type in content_types.PREVIEWABLE and self.preview != Preview.NONE

    @property
    def local_path(self) -> Path:
        """The path of the local copy, whether it exists or not."""
        return Path(self.file.storage.path(self.file.name or self.local_name))

    @property
    def preview_path(self) -> Path:
        """The path of the preview, whether it exists or not."""
        return preview_path(self.pk)

    @property
    def local_name(self) -> str:
        """The name of the local copy in the local store."""
        return local_name(self.dashboard.slug, self.rendered_at, self.id, self.suffix)

    @property
    def suffix(self) -> str:
        """The file name extension that fits the content, for example `.pdf`."""
        return content_types.extension(self.content_type, self.filename)


class ReportCount(models.Model):
    """A part of the number of reports of a dashboard, maintained by database triggers: see `count_triggers`."""

    dashboard = models.ForeignKey(Dashboard, on_delete=models.CASCADE, related_name="+")
    reports = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.reports} of {self.dashboard_id}"
