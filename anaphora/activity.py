"""Reports the actions of people and programs, by a signal, to the app that keeps the audit trail.

Every app may import this module, and none depends on the receiver. The signal is sent by `send`, not `send_robust`: an
exception in the receiver reaches the caller, so that an action that cannot be recorded does not happen.
"""

from collections.abc import Callable, Iterable
from contextvars import Context
from datetime import timedelta
from typing import Any

from django.db import models
from django.dispatch import Signal
from django.http import HttpRequest

activity = Signal()
"""Sent by `record`, with its arguments. `details` is a list with a dictionary for each target, or one for the name."""

AN_HOUR = timedelta(hours=1)


class Action(models.TextChoices):
    """The kinds of actions."""

    SIGNED_IN = "signed_in", "signed in"
    SIGN_IN_REFUSED = "sign_in_refused", "sign-in refused"
    LOCKED_OUT = "locked_out", "locked out"
    SIGNED_OUT = "signed_out", "signed out"
    CREATED = "created", "created"
    CHANGED = "changed", "changed"
    DELETED = "deleted", "deleted"
    REVOKED = "revoked", "revoked"
    TESTED = "tested", "tested"
    RETRIED = "retried", "retried"
    CANCELLED = "cancelled", "cancelled"
    BACKFILLED = "backfilled", "backfill started"
    VERIFIED = "verified", "verified"
    UPLOADED = "uploaded", "report ingested"
    UPLOADED_AGAIN = "uploaded_again", "known report sent again"
    VIEWED = "viewed", "content viewed"
    PREVIEWED = "previewed", "preview viewed"
    DOWNLOADED = "downloaded", "content downloaded"
    EVIDENCE = "evidence", "evidence downloaded"
    API_READ = "api_read", "metadata read by API"
    EXPORTED = "exported", "audit trail exported"
    REMOVED = "removed", "audit trail shortened"
    OTHER = "other", "other change in the admin"


def record(
    action: Action,
    *targets: Any,
    request: HttpRequest | None = None,
    once: timedelta | None = None,
    name: str = "",
    details_of: Callable[[Any], dict[str, Any]] | None = None,
    contexts: list[Context] | None = None,
    **details: Any,
) -> None:
    """Record that `action` was done to each of `targets` (model instances) or, without targets, to the object `name`.

    `request` is needed only if the request may be over, as in a stream. With `once`, nothing is recorded if the same
    actor did the same to the same target less than that long ago. `details`, and the result of `details_of` for a
    target, must be JSON values without secrets. `contexts`, one for each target, tell who acts if not
    all of it was done by this thread.
    """
    found = [details | details_of(each) for each in targets] if details_of else [details] * max(len(targets), 1)
    activity.send(
        sender=Action, action=action, targets=targets, request=request, once=once, name=name, details=found,
        contexts=contexts,
    )  # fmt: skip


def record_each(
    action: Action,
    targets: Iterable[Any],
    contexts: list[Context] | None = None,
    *,
    details_of: Callable[[Any], dict[str, Any]] | None = None,
    **details: Any,
) -> None:
    """Record that `action` was done to each of `targets`. Does nothing if there are none."""
    if found := list(targets):
        record(action, *found, details_of=details_of, contexts=contexts, **details)
