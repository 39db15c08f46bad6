"""The address of the client that sent a request, also behind a proxy: lockouts go by it.

A client can send any `X-Forwarded-For`, and a proxy adds the address it sees at the end. So the last one counts, and
only where a proxy is known to be in front (the setting HTTPS).
"""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the client's address as the proxy reported it; without one, that of the connection."""
    connected: str = request.META.get("REMOTE_ADDR", "")
    if not settings.HTTPS:
        return connected
    # Some proxies add the port: 192.0.2.1:50000 or [2001:db8::1]:50000.
    last = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    if last.startswith("["):
        last = last[1:].partition("]")[0]
    elif last.count(":") == 1:
        last = last.partition(":")[0]
    try:
        return str(ip_address(last))
    except ValueError:
        return connected
