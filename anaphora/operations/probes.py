"""What machines ask: /healthz/live, /healthz/ready and /metrics.

As a middleware, before host names and https are checked: a probe addresses a machine by its number, over plain http.
"""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST

from anaphora.operations import health, metrics, watcher


class Probes:
    """Answers the addresses of probes, and passes everything else on."""

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
    """Say that this process answers."""
    return JsonResponse({"live": True})


def ready(request: HttpRequest) -> HttpResponse:
    """Say whether everything runs that a report needs: 200, or 503 with what is wrong."""
    watcher.look_if_nobody_does()
    checks = health.ready()
    everything = all(check.ok for check in checks)
    found = {check.name: {"ok": check.ok} | ({"problem": check.problem} if check.problem else {}) for check in checks}
    return JsonResponse({"ready": everything, "checks": found}, status=200 if everything else 503)


def prometheus(request: HttpRequest) -> HttpResponse:
    """Answer with the metrics, to whoever has the token or is in an allowed network."""
    if not may_read_metrics(request):
        return HttpResponse(
            "Send METRICS_TOKEN as a bearer token, or ask from one of METRICS_NETWORKS.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Bearer"},
        )
    watcher.look_if_nobody_does()
    return HttpResponse(metrics.text(), content_type=CONTENT_TYPE_LATEST)


def may_read_metrics(request: HttpRequest) -> bool:
    """Return whether a request bears the token, or comes straight from an allowed network.

    What a proxy passes on comes from the proxy's address, so it needs the token.
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
