"""Error reports without secrets: the error pages of DEBUG and the error mails.

Django hides settings by name, and hides request values only if DEBUG is off. This module always hides both, by name and
by value, because an installation may run with DEBUG for a short time to find an error.
"""

import re
from collections.abc import Iterator
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

_SENSITIVE = re.compile(
    r"API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|COOKIE|BROKER|DATABASE|CREDENTIAL|EXTERNAL_ID|SESSION", re.IGNORECASE
)
_MIN_SECRET_LENGTH = 4
"""Shorter values are not hidden by value, because they appear in many texts by chance."""


_MAX_DEPTH = 3
"""Levels of attributes searched for secrets: a storage has a connection, which has the secret."""


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Hides settings, request headers and form values by name, whether DEBUG is on or off."""

    hidden_settings = _SENSITIVE

    def is_active(self, request: HttpRequest | None) -> bool:
        """Return True, also with DEBUG on."""
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        """Return the form values, with sensitive values replaced by asterisks."""
        if request is None:
            return {}
        cleansed = request.POST.copy()
        for name in cleansed:
            if _SENSITIVE.search(name):
                cleansed[name] = self.cleansed_substitute
        return cleansed


class ErrorReporter(ExceptionReporter):
    """Hides secrets by value too: they are replaced in the whole report, also within longer texts."""

    def get_traceback_html(self) -> SafeString:
        return self._without_secrets(super().get_traceback_html())

    def get_traceback_text(self) -> SafeString:
        return self._without_secrets(super().get_traceback_text())

    def _without_secrets(self, report: str) -> SafeString:
        for secret in sorted(set(self._secrets()), key=len, reverse=True):
            if len(secret) < _MIN_SECRET_LENGTH:
                continue
            for written in {secret, escape(secret), repr(secret)[1:-1], escape(repr(secret)[1:-1])}:
                report = report.replace(written, ErrorReportFilter.cleansed_substitute)
        return SafeString(report)

    def _secrets(self) -> Iterator[str]:
        """Yield the secrets that the report could contain: from the settings, the request and local variables."""
        yield settings.SECRET_KEY
        yield from settings.FERNET_KEYS
        for database in settings.DATABASES.values():
            yield str(database.get("PASSWORD", ""))
        password = urlsplit(settings.CELERY_BROKER_URL).password or ""
        yield from (password, unquote(password))  # percent-encoded in the URL, and decoded
        if self.request is not None:
            yield from self.request.COOKIES.values()
            yield self.request.headers.get("Authorization", "").rpartition(" ")[2]
            for name, values in self.request.POST.lists():
                if _SENSITIVE.search(name):
                    yield from (str(value) for value in values)
        for frame in self._frames():
            for value in list(frame.f_locals.values()):
                yield from _find_secrets(value, _MAX_DEPTH)

    def _frames(self) -> Iterator[FrameType]:
        error, seen = self.exc_value, set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback = error.__traceback__
            while traceback is not None:
                yield traceback.tb_frame
                traceback = traceback.tb_next
            error = error.__cause__ or error.__context__


_CREDENTIAL_ATTRIBUTES = ("secret_key", "token")
"""Attributes of botocore's credentials that contain secrets as plain text."""


def _find_secrets(value: object, depth: int) -> Iterator[str]:
    """Yield the secrets in a value and in its attributes, up to `depth` levels."""
    if callable(reveal := getattr(type(value), "reveal", None)):
        yield str(reveal(value))
    for name in _CREDENTIAL_ATTRIBUTES:
        if isinstance(text := getattr(value, name, None), str):
            yield text
    if depth:
        for part in list(getattr(value, "__dict__", {}).values()):
            yield from _find_secrets(part, depth - 1)
