"""Hardens boto3 clients through botocore's private attributes: addresses, trust, redirects and request headers.

botocore has no public API for this. If a new release changes an attribute that the address guard needs,
`harden_client()` raises, so that no client works without the guard. If it changes an attribute that is only used for
speed, requests stay correct and become slower. The tests of this module show which attribute has changed.
"""

import contextlib
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from anaphora.deliveries.errors import DeliveryError
from delivery_s3 import diagnoses, endpoint_guard, fast_listing, tls
from delivery_s3.request_bounds import BoundedConnection, BoundedPool

EXPECT_CONTINUE_BYTES = 1024 * 1024
"""Bytes. Bodies of this size or more are sent with `Expect: 100-continue`: a store can refuse them unsent."""


def with_known_sha256(file: BinaryIO, sha256: str) -> BinaryIO:
    """Return `file` with its SHA-256 (hexadecimal) attached, so that the signature does not compute it again.

    The store compares the received content with the signed digest. A digest from ingest therefore also detects changes
    of the local file since then.
    """
    with contextlib.suppress(AttributeError):
        file.known_sha256 = sha256  # type: ignore[attr-defined]
    return file


def harden_client(client: Any, *, allow_private: bool, pinned: bool) -> None:
    """Harden a boto3 client before its first request.

    The client connects only to addresses that `endpoint_guard` has checked. Its requests and answers are bounded (see
    `request_bounds`). It does not follow redirects to another region or host. With `pinned`, every certificate of
    the CA bundle is a trust anchor, not only a self-signed one.
    """
    session = client._endpoint.http_session
    # The sum of the timeouts for connecting, for sending and for the start of the answer.
    seconds = 2.0 * session._timeout.read_timeout + session._timeout.connect_timeout
    pools = {
        scheme: _guarded_pool_class(pool, allow_private=allow_private, seconds=seconds)
        for scheme, pool in session._pool_classes_by_scheme.items()
    }
    # The manager's is used for direct connections, the session's to create the pool of a proxy.
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = pools
    if pinned:
        tls.trust_all_anchors(session._manager.connection_pool_kw["ssl_context"])
    client.meta.events.register("before-call.s3", _prevent_redirect)
    client.meta.events.register_last("before-call.s3", _remove_expect_header)
    client.meta.events.register("before-send", partial(_check_proxied_endpoint, session._proxy_config, allow_private))
    client.meta.events.register_first(fast_listing.EVENT, fast_listing.parse_page)
    _reuse_known_sha256(client)


def _guarded_pool_class(pool: Any, *, allow_private: bool, seconds: float) -> type:
    connection = type(
        f"Guarded{pool.ConnectionCls.__name__}",
        (BoundedConnection, _GuardedConnection, pool.ConnectionCls),
        {"allow_private": allow_private, "allowed_seconds": seconds},
    )
    return type(f"Guarded{pool.__name__}", (BoundedPool, pool), {"ConnectionCls": connection})


class _GuardedConnection:
    """A mixin for urllib3 connections: resolves the host itself and connects only to the allowed addresses."""

    allow_private: bool
    _dns_host: str
    port: int

    def _new_conn(self) -> Any:
        # urllib3 connects to `_dns_host`. Certificates are checked for `host`, which is derived from it.
        host = self._dns_host
        failure: Exception | None = None
        try:
            for address in endpoint_guard.resolve(host, self.port, allow_private=self.allow_private):
                self._dns_host = address
                try:
                    return super()._new_conn()  # type: ignore[misc]
                except Exception as error:
                    failure = error
        finally:
            self._dns_host = host
        assert failure is not None
        raise failure


def _check_proxied_endpoint(proxies: Any, allow_private: bool, request: Any, **kwargs: Any) -> None:  # noqa: FBT001
    """Refuse a request through a proxy if the endpoint resolves to a forbidden address on this machine."""
    if proxies.proxy_url_for(request.url):
        host = urlsplit(request.url)
        try:
            endpoint_guard.resolve(str(host.hostname), host.port or 443, allow_private=allow_private)
        except DeliveryError as error:
            if error.diagnosis is not diagnoses.HOST_NOT_FOUND:
                raise


def _prevent_redirect(context: Any, **kwargs: Any) -> None:
    # botocore's redirector sets this after the first redirect and then raises the error instead of redirecting.
    context["s3_redirect"]["redirected"] = True


def _remove_expect_header(params: Any, **kwargs: Any) -> None:
    """Remove `Expect: 100-continue` from small requests: the extra round trip takes longer than sending the file."""
    if int(params["headers"].get("Content-Length", 0)) < EXPECT_CONTINUE_BYTES:
        params["headers"].pop("Expect", None)


def _reuse_known_sha256(client: Any) -> None:
    """Let signatures use the SHA-256 from `with_known_sha256()` instead of computing it."""
    signer: Any = getattr(client, "_request_signer", None)
    make_auth = getattr(signer, "get_auth_instance", None)
    if make_auth is None:
        return

    def make_with_known_sha256(*args: Any, **kwargs: Any) -> Any:
        auth = make_auth(*args, **kwargs)
        compute_payload_hash = getattr(auth, "payload", None)
        if compute_payload_hash is not None:
            auth.payload = lambda request: getattr(request.body, "known_sha256", "") or compute_payload_hash(request)
        return auth

    signer.get_auth_instance = make_with_known_sha256
