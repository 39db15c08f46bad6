"""The keys to the API."""

from django.db import models


class Scope(models.TextChoices):
    """What a token of the API lets its bearer do."""

    INGEST = "ingest", "take reports in"
    READ = "read", "read reports"


class ApiToken(models.Model):
    """A key to the API. Only a hash of it is kept, so it is shown once; see `tokens`."""

    name = models.CharField(max_length=100, help_text="Who uses it, such as the renderer's name.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    beginning = models.CharField(max_length=16, editable=False)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API token"
        ordering = ["name", "-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.beginning}…)"
