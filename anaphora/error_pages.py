"""Error pages of DEBUG, and the error mails: what they show of a request, of settings and of variables has no secrets.

Django hides settings by their names, and request values only where DEBUG is off. Here both are hidden always, by name
and by value, as an installation may run with DEBUG for an hour to find a fault.
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
_SHORTEST = 4
"""A shorter value is on many pages by chance; hiding it by value would only garble them."""


_DEPTH = 3
"""How deep within a variable a secret is looked for: a storage has a connection, which has the secret."""


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Hides by name, in settings, request headers and form values, whether DEBUG is on or off."""

    hidden_settings = _SENSITIVE

    def is_active(self, request: HttpRequest | None) -> bool:
        """Return True: DEBUG is no reason to show a secret."""
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        """Return the form's values, the sensitive ones as stars."""
        if request is None:
            return {}
        cleansed = request.POST.copy()
        for name in cleansed:
            if _SENSITIVE.search(name):
                cleansed[name] = self.cleansed_substitute
        return cleansed


class ErrorReporter(ExceptionReporter):
    """Hides by value too: a secret in a local variable, or within a longer text, is replaced in the whole report."""

    def get_traceback_html(self) -> SafeString:
        """Return the page without secrets."""
        return self._without_secrets(super().get_traceback_html())

    def get_traceback_text(self) -> SafeString:
        """Return the text without secrets."""
        return self._without_secrets(super().get_traceback_text())

    def _without_secrets(self, report: str) -> SafeString:
        for secret in sorted(set(self._secrets()), key=len, reverse=True):
            if len(secret) < _SHORTEST:
                continue
            for written in {secret, escape(secret), repr(secret)[1:-1], escape(repr(secret)[1:-1])}:
                report = report.replace(written, ErrorReportFilter.cleansed_substitute)
        return SafeString(report)

    def _secrets(self) -> Iterator[str]:
        """Yield the secrets that this report could hold: those of the settings, of the request and of the variables."""
        yield settings.SECRET_KEY
        yield from settings.FERNET_KEYS
        for database in settings.DATABASES.values():
            yield str(database.get("PASSWORD", ""))
        password = urlsplit(settings.CELERY_BROKER_URL).password or ""
        yield from (password, unquote(password))  # as it is written there, and as it is used
        if self.request is not None:
            yield from self.request.COOKIES.values()
            yield self.request.headers.get("Authorization", "").rpartition(" ")[2]
            for name, values in self.request.POST.lists():
                if _SENSITIVE.search(name):
                    yield from (str(value) for value in values)
        for frame in self._frames():
            for value in list(frame.f_locals.values()):
                yield from _revealed(value, _DEPTH)

    def _frames(self) -> Iterator[FrameType]:
        error, seen = self.exc_value, set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            traceback = error.__traceback__
            while traceback is not None:
                yield traceback.tb_frame
                traceback = traceback.tb_next
            error = error.__cause__ or error.__context__


_OF_CREDENTIALS = ("secret_key", "token")
"""What botocore's credentials, a machine's or a role's, call their secrets; they are plain text there."""


def _revealed(value: object, depth: int) -> Iterator[str]:
    """Yield the text of what is, or holds, a value that has to be revealed to be read."""
    if callable(reveal := getattr(type(value), "reveal", None)):
        yield str(reveal(value))
    for name in _OF_CREDENTIALS:
        if isinstance(text := getattr(value, name, None), str):
            yield text
    if depth:
        for part in list(getattr(value, "__dict__", {}).values()):
            yield from _revealed(part, depth - 1)
