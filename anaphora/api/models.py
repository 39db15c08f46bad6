"""API tokens and their scopes."""

from django.db import models


class Scope(models.TextChoices):
    """What an API token allows."""

    INGEST = "ingest", "ingest reports"
    READ = "read", "read reports"


class ApiToken(models.Model):
    """An API token. Only its hash is stored; see `tokens`."""

    name = models.CharField(max_length=100, help_text="Who uses the token, for example the name of the renderer.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    beginning = models.CharField(max_length=16, editable=False)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Leave empty for a token that never expires.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    plain: str = ""
    """The token itself, in the process that created it. Not a field."""

    class Meta:
        verbose_name = "API token"
        ordering = ["name", "-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.beginning}…)"
