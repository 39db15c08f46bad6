"""The address of a request's client, also behind a proxy, and the user name entered at a login. Lockouts use both.

A client can send any `X-Forwarded-For`; a proxy appends the address that it sees. Therefore only the last address is
used, and only if a proxy is configured (the setting HTTPS).
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the client's address as reported by the proxy, or without a proxy the address of the connection."""
    connected: str = request.META.get("REMOTE_ADDR", "")
    if not settings.HTTPS:
        return connected
    # Some proxies append the port: 192.0.2.1:50000 or [2001:db8::1]:50000.
    last = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    if last.startswith("["):
        last = last[1:].partition("]")[0]
    elif last.count(":") == 1:
        last = last.partition(":")[0]
    try:
        return str(ip_address(last))
    except ValueError:
        return connected


NAME_LENGTH = 150
"""Maximum length of a user name in Django. The login form accepts longer ones, which PostgreSQL cannot store."""


def typed_name(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str | None:
    """Return the user name entered at a login, truncated to NAME_LENGTH; None if there is none."""
    name = (credentials or request.POST).get("username")
    return str(name)[:NAME_LENGTH] if name is not None else None
