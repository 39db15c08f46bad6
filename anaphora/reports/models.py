"""What was rendered: dashboards, and their reports with a local copy each."""

import uuid
from datetime import UTC
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.validators import validate_slug
from django.db import models
from django.utils import timezone

from anaphora.reports import content_types


def local_store() -> FileSystemStorage:
    """Return the folder of the reports' local copies. It is private: no address serves it."""
    return FileSystemStorage(location=settings.DATA_DIR / "reports", base_url=None)


class Dashboard(models.Model):
    """What reports depict; known by its slug, which is part of every object key and so never changes."""

    slug = models.CharField(
        max_length=100,
        unique=True,
        validators=[validate_slug],
        help_text="Letters, digits, hyphens and underscores. Part of every object key.",
    )
    title = models.CharField(max_length=200, blank=True, help_text="What people call it. Empty: the slug.")

    keep_local_days = models.PositiveIntegerField(
        "keep local copies",
        null=True,
        blank=True,
        help_text="Days, counted from the delivery; then what is safely archived is removed here. Empty: for ever.",
    )

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.title or self.slug


class Preview(models.TextChoices):
    """Whether there is a small picture of a report."""

    WAITING = "waiting", "to be made"
    MADE = "made", "made"
    NONE = "none", "none can be made"


class Report(models.Model):
    """One rendered file of one dashboard at one instant, and the digests taken while it came in.

    `rendered_at` is in UTC and has whole seconds, as the object key has. Dashboard, instant and content
    together name a report: the same three again are the same report. Rows are made by `ingest()` alone.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dashboard = models.ForeignKey(Dashboard, on_delete=models.PROTECT, related_name="reports")
    rendered_at = models.DateTimeField()
    filename = models.CharField("file name", max_length=255, help_text="As it came in, without its folder.")
    content_type = models.CharField(max_length=127)
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    sha256 = models.CharField("SHA-256", max_length=64, help_text="Hexadecimal.")
    md5 = models.CharField("MD5", max_length=32, help_text="Hexadecimal.")
    file = models.FileField("local copy", storage=local_store, max_length=255, blank=True)
    ingested_at = models.DateTimeField(default=timezone.now)
    pages = models.PositiveIntegerField(default=0, editable=False, help_text="As drawn; 0: not drawn yet.")
    preview = models.CharField(max_length=10, choices=Preview.choices, default=Preview.WAITING, editable=False)

    class Meta:
        ordering = ["-rendered_at", "dashboard"]
        constraints = [
            models.UniqueConstraint(fields=["dashboard", "rendered_at", "sha256"], name="report_is_unique"),
        ]
        indexes = [
            models.Index(fields=["-rendered_at"], name="report_by_time"),
            models.Index(fields=["dashboard", "content_type", "-rendered_at"], name="report_by_format"),
            models.Index(
                fields=["ingested_at"],
                condition=models.Q(preview="waiting", content_type__in=sorted(content_types.DRAWN)),
                name="report_to_preview",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dashboard.slug} {self.rendered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def drawable(self) -> bool:
        """Whether there is a small picture of it, or may be one."""
        return self.content_type in content_types.DRAWN and self.preview != Preview.NONE

    @property
    def local_path(self) -> Path:
        """Where the local copy lies, or would lie were it still there."""
        return Path(self.file.storage.path(self.file.name or self.local_name))

    @property
    def preview_path(self) -> Path:
        """Where the report's preview lies, or would lie."""
        name = str(self.pk)
        return Path(settings.DATA_DIR) / "previews" / name[:2] / f"{name}.webp"

    @property
    def local_name(self) -> str:
        """The local copy's name in the local store. No part of it comes from outside but the checked slug."""
        return f"{self.dashboard.slug}/{self.rendered_at.astimezone(UTC):%Y/%m}/{self.id}{self.suffix}"

    @property
    def suffix(self) -> str:
        """What names of this file end with, such as `.pdf`: by its content, whatever the file name says."""
        return content_types.ending(self.content_type, self.filename)
