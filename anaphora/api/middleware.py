"""Answers to wrong methods in the API's way: Ninja answers those itself, in HTML, before any handler of errors."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from anaphora.api.routes import method_not_allowed


class ApiProblems:
    """Replaces the answer to a wrong method below /api/ by a problem in words."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self._get_response(request)
        if response.status_code == 405 and request.path_info.startswith("/api/"):
            return method_not_allowed(request, response.headers.get("Allow", ""))
        return response
