"""Refuses requests that no page of ours makes, before they reach code that would stumble over them."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

_LOOKUPS = frozenset({"exact", "isnull", "in", "gt", "gte", "lt", "lte", "year", "month", "day"})
"""What the admin's filters, hierarchies of dates and links look up. A regular expression can keep a database busy."""


_OUT_OF_BOUNDS = re.compile(r"(?<![0-9])(?:0001|9999)(?![0-9])|[0-9]{19,}")
"""In the value of a look-up: the calendar's ends, in no other time zone a date, and numbers that no database holds."""


class PlainRequests:
    """Drops cookies that hold NUL, and refuses addresses of the admin with NUL or a look-up that it does not offer.

    A database refuses NUL in a text with an error, PostgreSQL does; no browser sends it unless somebody tries.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        for name, value in list(request.COOKIES.items()):
            if "\0" in value:
                del request.COOKIES[name]
        if request.path_info.startswith("/admin/") and not _is_plain(request):
            return HttpResponseBadRequest("This address asks for something that the page does not offer.")
        return self._get_response(request)


def _is_plain(request: HttpRequest) -> bool:
    if "\0" in request.path_info:
        return False
    for name, values in request.GET.lists():
        if "\0" in name or any("\0" in value for value in values):
            return False
        if "__" in name and name.rpartition("__")[2] not in _LOOKUPS:
            return False
        if "__" in name and any(_OUT_OF_BOUNDS.search(value) for value in values):
            return False
        if name == "_to_field" and not all(values):
            return False
    return True
