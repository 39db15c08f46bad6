"""Returns 405 responses of the API as problem details. Django Ninja returns HTML without calling an error handler."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from anaphora.api.routes import method_not_allowed


class ApiProblems:
    """Replaces 405 responses below /api/ by problem details (RFC 9457)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        if response.status_code == 405 and request.path_info.startswith("/api/"):
            return method_not_allowed(request, response.headers.get("Allow", ""))
        return response
