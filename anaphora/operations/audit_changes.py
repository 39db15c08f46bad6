"""Records changes of rows, sign-ins, and everything else in the admin's log in the audit trail.

An entry about a change has the old and new values of the changed fields; for a secret, only that it was changed. Fields
that are not editable hold state written by the program and are left out.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from axes.signals import user_locked_out
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError, models
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.http import HttpRequest, HttpResponse

from anaphora.activity import AN_HOUR, Action, record
from anaphora.deliveries.models import kinds
from anaphora.operations import audit, audit_actor
from anaphora.operations.audit_actor import Actor
from anaphora.operations.audit_models import ActorKind
from anaphora.secret_fields import SecretField

logger = logging.getLogger(__name__)

_TRACKED = (
    "reports.Dashboard",
    "deliveries.ArchivePolicy",
    "operations.Expectation",
    "operations.AlertChannel",
    "api.ApiToken",
    "auth.User",
    "auth.Group",
)
"""The models whose changes are recorded, wherever they are made. Every kind of interface is recorded too."""

_SECRET = {"password", "external_id"}
"""Fields whose values are never recorded, in addition to those of type SecretField."""
_IGNORED = {"last_login", "date_joined"}
_LONGEST, _MOST = 200, 50


def connect() -> None:
    """Connect to the signals of the tracked models, of sign-ins and of the admin's log."""
    for model in [*(apps.get_model(label) for label in _TRACKED), *kinds()]:
        uid = f"operations.audit.{model._meta.label}"
        pre_save.connect(_remember, sender=model, dispatch_uid=uid)
        post_save.connect(_on_save, sender=model, dispatch_uid=uid)
        post_delete.connect(_on_delete, sender=model, dispatch_uid=uid)
        for field in model._meta.many_to_many:
            through = getattr(model, field.name).through
            m2m_changed.connect(_on_many_to_many, sender=through, dispatch_uid=f"{uid}.{field.name}")
    post_save.connect(_on_log_entry, sender=LogEntry, dispatch_uid="operations.audit")
    user_logged_in.connect(_on_signed_in, dispatch_uid="operations.audit")
    user_logged_out.connect(_on_signed_out, dispatch_uid="operations.audit")
    user_login_failed.connect(_on_refused, dispatch_uid="operations.audit")
    user_locked_out.connect(_on_locked_out, dispatch_uid="operations.audit")


# Changes of rows.


def _fields(model: type[models.Model], names: Any = None) -> list[Any]:
    return [
        field
        for field in model._meta.concrete_fields
        if field.editable
        and not field.primary_key
        and field.name not in _IGNORED
        and (names is None or field.name in names or field.attname in names)
    ]


def _is_secret(field: Any) -> bool:
    return isinstance(field, SecretField) or field.name in _SECRET


def _shown(instance: Any, field: Any) -> Any:
    value = getattr(instance, field.name)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _remember(*, sender: Any, instance: Any, raw: bool, update_fields: Any = None, **kwargs: Any) -> None:
    instance._audit_before = None
    if not raw and not instance._state.adding and _fields(sender, update_fields):
        instance._audit_before = sender._base_manager.filter(pk=instance.pk).first()


def _on_save(*, sender: Any, instance: Any, created: bool, raw: bool, update_fields: Any = None, **kwargs: Any) -> None:
    if raw:  # loaddata restores rows; nobody changes them
        return
    before = instance.__dict__.pop("_audit_before", None)
    if created:
        values = {
            field.name: "set" if _is_secret(field) else _shown(instance, field)
            for field in _fields(sender)
            if getattr(instance, field.attname) not in (None, "")  # a list cannot be in a set
        }
        record(Action.CREATED, instance, fields=values)
    elif before is not None:
        changed = {
            field.name: "changed" if _is_secret(field) else [_shown(before, field), _shown(instance, field)]
            for field in _fields(sender, update_fields)
            if getattr(before, field.attname) != field.to_python(getattr(instance, field.attname))
        }
        if changed:
            record(Action.CHANGED, instance, fields=changed)


def _on_delete(*, instance: Any, **kwargs: Any) -> None:
    record(Action.DELETED, instance)


def _on_many_to_many(*, instance: Any, action: str, model: Any, pk_set: Any, sender: Any, **kwargs: Any) -> None:
    word = {"post_add": "added", "post_remove": "removed", "pre_clear": "cleared"}.get(action)
    if word is None or (pk_set is not None and not pk_set):
        return
    rows = model._base_manager.filter(pk__in=list(pk_set)[:_MOST]) if pk_set is not None else ()
    name = sender._meta.model_name.partition("_")[2]
    record(Action.CHANGED, instance, fields={name: {word: sorted(str(row) for row in rows)}})


def _on_log_entry(*, instance: LogEntry, created: bool, **kwargs: Any) -> None:
    """Record an entry of the admin's log, unless this request has already recorded one about the same object."""
    model = instance.content_type.model_class() if instance.content_type else None
    kind = model._meta.label_lower if model else ""
    if not created or (kind, str(instance.object_id)) in audit_actor.recorded():
        return
    try:
        is_form = isinstance(json.loads(instance.change_message or "[]"), list)
    except ValueError:
        is_form = False
    tracked = {label.lower() for label in _TRACKED} | {each._meta.label_lower for each in kinds()}
    if is_form and kind in tracked:  # saved without a change
        return
    action = Action.OTHER
    if is_form:
        action = {1: Action.CREATED, CHANGE: Action.CHANGED}.get(instance.action_flag, Action.DELETED)
    target = model(pk=instance.object_id) if model and instance.object_id else None
    audit.write(
        action,
        *(() if target is None else (_Named(target, instance.object_repr),)),
        actor=_actor_of(instance),
        details={"message": instance.get_change_message()[:_LONGEST]},
        name=instance.object_repr,
    )


class _Named:
    """A row that may no longer exist, with its key and its name from the admin's log."""

    def __init__(self, row: models.Model, name: str) -> None:
        self._meta, self.pk, self._name = row._meta, row.pk, name

    def __str__(self) -> str:
        return self._name


def _actor_of(entry: LogEntry) -> Actor:
    actor = audit_actor.current()
    if actor.kind == ActorKind.USER:
        return actor
    return Actor(ActorKind.USER, entry.user.get_username(), str(entry.user_id), via="admin")


# Sign-ins.


def _at(request: HttpRequest | None, user: Any = None, name: str = "") -> Actor:
    """Return the actor of a sign-in: the user, or the name that was typed."""
    actor = audit_actor.current(request)
    if user is not None:
        return Actor(ActorKind.USER, user.get_username(), str(user.pk), actor.address, actor.via)
    return Actor(ActorKind.NOBODY, name, "", actor.address, actor.via)


def _on_signed_in(*, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    backend = str(getattr(user, "backend", "")).rpartition(".")[2]
    audit.write(Action.SIGNED_IN, user, actor=_at(request, user), details={"backend": backend})


def _on_signed_out(*, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    if user is not None:
        audit.write(Action.SIGNED_OUT, user, actor=_at(request, user))


def _on_refused(*, credentials: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    name = str(credentials.get("username") or getattr(request, "sign_in_name", ""))
    problem = getattr(request, "sign_in_problem", "")  # that of OpenID Connect
    if not getattr(request, "axes_locked_out", False):
        details = {"problem": problem} if problem else {}
        # A refusal without a user name causes no lockout, so it is recorded once an hour to limit the entries.
        once = None if name else AN_HOUR
        audit.write(Action.SIGN_IN_REFUSED, actor=_at(request, name=name), name=name, details=details, once=once)


class RecordRefusedTokens:
    """Middleware that records API requests refused for an invalid token, at most once an hour for each address.

    A request without a token is not recorded: it guesses nothing.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        if response.status_code == 401 and request.path_info.startswith("/api/") and "Authorization" in request.headers:
            try:
                audit.write(Action.SIGN_IN_REFUSED, actor=_at(request), name="invalid API token", once=AN_HOUR)
            except DatabaseError:  # the request was refused anyway, and its answer stays 401
                logger.exception("A request with an invalid API token could not be recorded")
        return response


def _on_locked_out(*, request: HttpRequest, username: str | None, **kwargs: Any) -> None:
    """Record a lockout at most once an hour, so that further attempts do not fill the database."""
    actor = _at(request, name=str(username or ""))
    audit.write(Action.LOCKED_OUT, actor=actor, name=actor.name, once=AN_HOUR)
