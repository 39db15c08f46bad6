"""Resolves the host of an endpoint, and refuses addresses that must not be connected to. Without it, a user who can
edit Custom endpoint could make this machine send requests to services that trust it, such as a cloud metadata service,
a router or another process (SSRF).

Host names are resolved once, here, and connections are made only to the addresses that were checked. A DNS answer that
changes between the check and the connection (DNS rebinding) has no effect (see `botocore_patches`).
"""

import socket
from ipaddress import ip_address

from anaphora.deliveries.errors import DeliveryError
from anaphora.forbidden_addresses import why_forbidden
from delivery_s3 import diagnoses


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Return the checked numeric addresses of `host`, in the order of the resolver.

    Raises DeliveryError `host_not_found`, or `endpoint_forbidden` if any address is forbidden.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryError(diagnoses.HOST_NOT_FOUND, f"{host}: {getattr(error, 'strerror', None) or error}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for text in addresses:
        if reason := why_forbidden(ip_address(text.partition("%")[0]), allow_private=allow_private):
            raise DeliveryError(diagnoses.ENDPOINT_FORBIDDEN, f"{host} resolves to {text}, {reason}")
    return addresses


def is_internal(host: str) -> bool:
    """Return whether a host is a private address or a name of a private network. Does not resolve the name."""
    host = host.strip("[]").lower()
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".home.arpa", ".localhost"))
    return address.is_private
