"""The audit trail: who did what, when and from where. Rows are written and never changed.

Rows have no foreign keys, so deleting a user, a token or a report does not change them.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, NoReturn

from django.db import models
from django.utils import timezone

from anaphora.activity import Action


class ActorKind(models.TextChoices):
    """The kinds of actors."""

    USER = "user", "user"
    TOKEN = "token", "API token"
    COMMAND = "command", "command"
    SERVICE = "service", "service"
    NOBODY = "nobody", "not signed in"


class AppendOnlyError(Exception):
    """The audit trail cannot be changed."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """A queryset that refuses bulk updates and deletes, as the model refuses those of single rows."""

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnlyError("Entries of the audit trail cannot be changed.")

    def delete(self) -> NoReturn:
        """Refuse. Only `audit.remove_old` removes entries."""
        raise AppendOnlyError("Entries of the audit trail cannot be deleted.")

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run one query per value: for two, such as Min and Max, SQLite would read the whole index."""
        if args or len(kwargs) < 2:
            return super().aggregate(*args, **kwargs)
        return {name: super(AuditQuerySet, self).aggregate(**{name: value})[name] for name, value in kwargs.items()}

    def datetimes(self, field_name: str, kind: str, order: str = "ASC", tzinfo: tzinfo | None = None) -> Any:
        """Return the years, months or days from the first entry to the last one, for the admin's date hierarchy.

        Django's own method leaves out periods without entries, and reads every row to do so.
        """
        found = list(self._periods(kind, tzinfo or timezone.get_current_timezone()))
        return found if order == "ASC" else found[::-1]

    def _periods(self, kind: str, zone: tzinfo) -> Iterator[datetime]:
        ends = self.aggregate(first=models.Min("at"), last=models.Max("at"))
        if ends["first"] is None:
            return
        day, last = ends["first"].astimezone(zone).date(), ends["last"].astimezone(zone).date()
        while day <= last:
            first = day if kind == "day" else day.replace(day=1)
            first = first.replace(month=1) if kind == "year" else first
            yield datetime(first.year, first.month, first.day, tzinfo=zone)
            day = first + timedelta(days={"day": 1, "month": 32, "year": 366}[kind])
            day = day if kind == "day" else day.replace(day=1)


class AuditEntry(models.Model):
    """One action of somebody. Entries can be created, but neither changed nor deleted, in the admin and in code."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150, blank=True)
    """The user name, token, system user or task. For refused sign-ins, the name that was entered."""
    actor_kind = models.CharField("kind of actor", max_length=10, choices=ActorKind.choices)
    actor_id = models.CharField("actor's ID", max_length=20, blank=True)
    address = models.CharField(max_length=45, blank=True, help_text="The IP address of the client.")
    via = models.CharField(max_length=100, blank=True, help_text="admin, timeline, API, or which command or task.")
    action = models.CharField(max_length=20, choices=Action.choices)
    object_type = models.CharField(max_length=100, blank=True)
    object_id = models.CharField("object's ID", max_length=64, blank=True)
    object = models.CharField(max_length=300, blank=True)
    details = models.JSONField(default=dict, blank=True)

    objects: ClassVar[Any] = AuditQuerySet.as_manager()

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        default_permissions = ("view",)
        ordering: ClassVar[list[str]] = ["-at", "-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-at", "-id"], name="audit_by_time"),
            models.Index(fields=["action", "-at", "-id"], name="audit_by_action"),
            models.Index(fields=["actor", "-at", "-id"], name="audit_by_actor"),
            models.Index(fields=["object_type", "object_id", "-at", "-id"], name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.actor or 'somebody'}: {self.get_action_display()} {self.object}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Create the row. Raises AppendOnlyError if it exists."""
        if not self._state.adding:
            raise AppendOnlyError("Entries of the audit trail cannot be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnlyError("Entries of the audit trail cannot be deleted.")
