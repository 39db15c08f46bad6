"""Serves /healthz/live, /healthz/ready and /metrics.

It is a middleware that runs before host names and https are checked, because a probe connects to an IP address over
plain http.
"""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST

from anaphora.operations import health, metrics, watcher


class Probes:
    """Middleware that answers the paths of probes and passes all other requests on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        view = VIEWS.get(request.path_info)
        if view is None:
            return self._get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
        answer = view(request)
        answer["Cache-Control"] = "no-store"
        return answer


def live(request: HttpRequest) -> HttpResponse:
    """Respond with 200, because this process works if it responds."""
    return JsonResponse({"live": True})


def ready(request: HttpRequest) -> HttpResponse:
    """Respond with 200 if everything that reports need works, or with 503 and the problems."""
    watcher.check_if_stale()
    checks = health.ready()
    everything = all(check.ok for check in checks)
    found = {check.name: {"ok": check.ok} | ({"problem": check.problem} if check.problem else {}) for check in checks}
    return JsonResponse({"ready": everything, "checks": found}, status=200 if everything else 503)


def prometheus(request: HttpRequest) -> HttpResponse:
    """Respond with the metrics, if the client has the token or is in an allowed network."""
    if not may_read_metrics(request):
        return HttpResponse(
            "Send METRICS_TOKEN as a bearer token, or connect from one of METRICS_NETWORKS.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Bearer"},
        )
    watcher.check_if_stale()
    return HttpResponse(metrics.text(), content_type=CONTENT_TYPE_LATEST)


def may_read_metrics(request: HttpRequest) -> bool:
    """Return whether a request has the token, or comes directly from an allowed network.

    A request through a proxy comes from the proxy's address, so it needs the token.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return constant_time_compare(token.strip(), settings.METRICS_TOKEN)
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP")):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in network for network in settings.METRICS_NETWORKS)


VIEWS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz/live": live,
    "/healthz/ready": ready,
    "/metrics": prometheus,
}
