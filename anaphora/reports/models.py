"""What was rendered: dashboards, and their reports with a local copy each."""

import uuid
from datetime import UTC
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.validators import validate_slug
from django.db import models


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

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.title or self.slug


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
    ingested_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-rendered_at", "dashboard"]
        constraints = [
            models.UniqueConstraint(fields=["dashboard", "rendered_at", "sha256"], name="report_is_unique"),
        ]
        indexes = [models.Index(fields=["-rendered_at"], name="report_by_time")]

    def __str__(self) -> str:
        return f"{self.dashboard.slug} {self.rendered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def local_path(self) -> Path:
        """Where the local copy lies, or would lie were it still there."""
        return Path(local_store().path(self.file.name or self.local_name))

    @property
    def local_name(self) -> str:
        """The local copy's name in the local store. No part of it comes from outside but the checked slug."""
        return f"{self.dashboard.slug}/{self.rendered_at.astimezone(UTC):%Y/%m}/{self.id}{self.suffix}"

    @property
    def suffix(self) -> str:
        """The file name's ending in lower case, such as `.pdf`; empty where it has none that is plain."""
        suffix = Path(self.filename).suffix.lower()
        return suffix if suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 11 else ""
