"""Rejects requests that no page of this project sends, before they cause errors in the database or the views."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

_LOOKUPS = frozenset({"exact", "isnull", "in", "gt", "gte", "lt", "lte", "year", "month", "day"})
"""Lookups used by the admin's filters, date hierarchies and links. Other lookups, such as `regex`, can overload the
database."""


_INVALID_VALUE = re.compile(r"(?<![0-9])(?:0001|9999)(?![0-9])|[0-9]{19,}")
"""Lookup values that cause errors: years that overflow in another time zone, and numbers too large for the database."""


class RejectInvalidRequests:
    """Removes cookies that contain NUL. Rejects admin URLs that contain NUL or a lookup that the admin does not use.

    PostgreSQL raises an error for NUL in text.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        for name, value in list(request.COOKIES.items()):
            if "\0" in value:
                del request.COOKIES[name]
        if request.path_info.startswith("/admin/") and not _is_valid(request):
            return HttpResponseBadRequest(
                "The URL contains a query parameter or a character that this page does not support."
            )
        return self._get_response(request)


def _is_valid(request: HttpRequest) -> bool:
    if "\0" in request.path_info:
        return False
    for name, values in request.GET.lists():
        if "\0" in name or any("\0" in value for value in values):
            return False
        if "__" in name and name.rpartition("__")[2] not in _LOOKUPS:
            return False
        if "__" in name and any(_INVALID_VALUE.search(value) for value in values):
            return False
        if name == "_to_field" and not all(values):
            return False
    return True
