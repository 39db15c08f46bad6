"""Writes the audit trail, and removes what is older than AUDIT_RETENTION.

An entry is written in the same transaction as the change it records. An action that cannot be recorded does not happen:
a change is rolled back, content is not sent, a sign-in fails.
"""

from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from anaphora.activity import Action, activity
from anaphora.bulk_rows import batched, insert_rows
from anaphora.foreign_text import clean_line
from anaphora.operations import audit_actor
from anaphora.operations.audit_actor import Actor
from anaphora.operations.audit_models import AuditEntry

BATCH = 5_000
"""Entries written or removed by one statement."""


def connect() -> None:
    """Connect to the signal `activity`."""
    activity.connect(_on_activity, dispatch_uid="operations.audit")


def _on_activity(
    *,
    action: Action,
    targets: tuple[Any, ...],
    request: HttpRequest | None,
    once: timedelta | None,
    name: str,
    details: list[dict[str, Any]],
    contexts: list[Context] | None,
    **kwargs: Any,
) -> None:
    if contexts is None:
        actors = [audit_actor.current(request)] * len(details)
    else:
        actors = [context.run(audit_actor.current, request) for context in contexts]
    _write(action, targets or (None,), details, actors, once=once, name=name)


def write(
    action: Action,
    *targets: Any,
    actor: Actor,
    once: timedelta | None = None,
    details: dict[str, Any] | None = None,
    name: str = "",
) -> None:
    """Write one entry for each target or, without targets, one entry with the object `name`.

    With `once`, skip an entry if the same actor did the same to the same target less than that long ago.
    """
    found = targets or (None,)
    _write(action, found, [details or {}] * len(found), [actor] * len(found), once=once, name=name)


def _write(
    action: Action,
    targets: tuple[Any, ...],
    details: list[dict[str, Any]],
    actors: list[Actor],
    *,
    once: timedelta | None,
    name: str,
) -> None:
    by = {actor: _by(actor) for actor in actors}
    entries = [
        _about(target, detail, name) | by[actor] for target, detail, actor in zip(targets, details, actors, strict=True)
    ]
    if once is not None:
        entries = [each for each in entries if not _is_known(action, each, timezone.now() - once)]
    for part in batched(entries, BATCH):
        insert_rows(AuditEntry, part, action=action)
    audit_actor.recorded().update((each["object_type"], each["object_id"]) for each in entries if each["object_id"])


def _by(actor: Actor) -> dict[str, Any]:
    return {
        "actor": _line(actor.name, 150),
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "address": actor.address[:45],
        "via": actor.via,
    }


def _about(target: Any, details: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what an entry says of its target, or of what `name` names."""
    return {
        "object_type": target._meta.label_lower if target is not None else "",
        "object_id": str(target.pk)[:64] if target is not None and target.pk is not None else "",
        "object": _line(str(target) if target is not None else name, 300),
        "details": _without_nul(details),
    }


def _line(text: str, length: int) -> str:
    """Return a name without line breaks, escapes and marks of direction, which could make it look like another one."""
    return clean_line(text[: 2 * length], length)  # a typed name can be very long


def _without_nul(value: Any) -> Any:
    """Return details without NUL characters, which PostgreSQL cannot store in JSON."""
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(each) for each in value]
    return value.replace("\0", "") if isinstance(value, str) else value


def _is_known(action: Action, entry: dict[str, Any], since: datetime) -> bool:
    same = ("actor", "actor_kind", "actor_id", "address", "object_type", "object_id", "object")
    known = AuditEntry.objects.filter(at__gt=since, action=action, **{name: entry[name] for name in same})
    return bool(known.exists())


def remove_old(now: datetime) -> int:
    """Remove the entries that are older than AUDIT_RETENTION days, if it is set; return how many. Records that."""
    if not settings.AUDIT_RETENTION:
        return 0
    before = now - timedelta(days=settings.AUDIT_RETENTION)
    removed = 0
    while True:
        with transaction.atomic():
            rows = AuditEntry.objects.filter(at__lt=before).order_by("at")
            keys = list(rows.values_list("pk", flat=True)[:BATCH])
            if not keys:
                return removed
            # The only place that removes entries; QuerySet.delete() refuses.
            AuditEntry.objects.filter(pk__in=keys)._raw_delete(AuditEntry.objects.db)
            removed += len(keys)
            details = {"entries": len(keys), "before": before.isoformat(timespec="seconds")}
            write(Action.REMOVED, actor=audit_actor.current(), details=details)
