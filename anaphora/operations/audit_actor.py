"""Determines who acts, and from where: by the request, the Celery task or the command that this process handles."""

import getpass
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery.signals import task_postrun, task_prerun
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse

from anaphora.client_address import client_address
from anaphora.operations.audit_models import ActorKind


@dataclass(frozen=True)
class Actor:
    """Who acts. `id` is the primary key of the user or token."""

    kind: ActorKind
    name: str = ""
    id: str = ""
    address: str = ""
    via: str = ""


@dataclass
class _Current:
    """The current request, and the objects about which it recorded entries."""

    request: HttpRequest
    recorded: set[tuple[str, str]] = field(default_factory=set)


_current: ContextVar[_Current | None] = ContextVar("audit_request", default=None)
_task: ContextVar[str] = ContextVar("audit_task", default="")


class RememberRequest:
    """Middleware that stores the current request, so that changes of rows can be attributed to its user.

    The request is cleared when the response is closed, not when it is returned, because a streaming response still
    acts for its user.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        _current.set(_Current(request))
        return self._get_response(request)


def connect() -> None:
    """Connect to the signals that clear a finished request, and to those of Celery tasks."""
    request_finished.connect(_forget_request, dispatch_uid="operations.audit")
    task_prerun.connect(_remember_task, dispatch_uid="operations.audit")
    task_postrun.connect(_forget_task, dispatch_uid="operations.audit")


def _forget_request(**kwargs: Any) -> None:
    _current.set(None)


def _remember_task(task: Any = None, **kwargs: Any) -> None:
    _task.set(str(task.name))


def _forget_task(**kwargs: Any) -> None:
    _task.set("")


def recorded() -> set[tuple[str, str]]:
    """Return the objects, as (type, id), about which the current request has recorded entries."""
    current = _current.get()
    return current.recorded if current else set()


def current(request: HttpRequest | None = None) -> Actor:
    """Return who acts: the user or token of the given or current request, else the task, else the command."""
    remembered = _current.get()
    if request is None and remembered is not None:
        request = remembered.request
    if request is not None:
        return _of_request(request)
    if task := _task.get():
        return Actor(ActorKind.SERVICE, task, via=f"task {task}")
    return _of_process()


def _of_request(request: HttpRequest) -> Actor:
    place = {"address": client_address(request), "via": _via(request)}
    token = getattr(request, "auth", None)  # set by the API
    if token is not None and getattr(token, "pk", None):
        return Actor(ActorKind.TOKEN, str(token), str(token.pk), **place)
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return Actor(ActorKind.USER, user.get_username(), str(user.pk), **place)
    return Actor(ActorKind.NOBODY, **place)


def _via(request: HttpRequest) -> str:
    doors = {"/admin/": "admin", "/api/": "API", "/timeline/": "timeline", "/reports/": "timeline"}
    return next((door for path, door in doors.items() if request.path_info.startswith(path)), "web")


def _of_process() -> Actor:
    """Return the system user that runs this process. Of the command line, only the command's name is recorded."""
    program = Path(sys.argv[0]).name
    command = sys.argv[1] if program == "manage.py" and len(sys.argv) > 1 else program
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        name = f"uid {os.getuid()}"
    return Actor(ActorKind.COMMAND, name, via=f"command {command}"[:100])
