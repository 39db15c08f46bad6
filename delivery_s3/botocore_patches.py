"""The one place that reaches into botocore: what a client connects to, whom it trusts, where it stays, what it asks.

botocore has no public way to say any of these. Should a new release move what the guard needs, `harden_client()`
raises, so that no client ever works unguarded; should it move what only makes a request cheaper, requests stay right
and become slower. The tests of this module say what has moved.
"""

import contextlib
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from anaphora.deliveries.errors import DeliveryError
from delivery_s3 import diagnoses, endpoint_guard, tls
from delivery_s3.request_bounds import BoundedConnection, BoundedPool

ASK_FIRST_BYTES = 1024 * 1024
"""From this size on, `Expect: 100-continue` lets a store refuse a file before it is sent."""


def known(file: BinaryIO, sha256: str) -> BinaryIO:
    """Return `file`, as a body whose SHA-256, in hexadecimal, a signature needs not compute.

    A store compares what arrives with the digest that was signed, so that one taken long before the request, when the
    report came in, is not only cheaper but says more.
    """
    with contextlib.suppress(AttributeError):
        file.known_sha256 = sha256  # type: ignore[attr-defined]
    return file


def harden_client(client: Any, *, allow_private: bool, pinned: bool) -> None:
    """Guard a boto3 S3 client before its first request.

    It connects only to addresses that `endpoint_guard` has checked. Its requests and answers have bounds. It follows no
    redirect to another region or host. With
    `pinned`, any certificate of the CA bundle ends the chain of trust, not only a self-signed one.
    """
    session = client._endpoint.http_session
    # A wait for each of connecting, sending and the answer's beginning, as long as each single one may be.
    seconds = 2.0 * session._timeout.read_timeout + session._timeout.connect_timeout
    pools = {
        scheme: _guarded(pool, allow_private=allow_private, seconds=seconds)
        for scheme, pool in session._pool_classes_by_scheme.items()
    }
    # The second is read for direct connections, the first when a proxy's pool is made.
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = pools
    if pinned:
        tls.pin(session._manager.connection_pool_kw["ssl_context"])
    client.meta.events.register("before-call.s3", _stay)
    client.meta.events.register_last("before-call.s3", _send_at_once)
    client.meta.events.register("before-send", partial(_check_proxied, session._proxy_config, allow_private))
    _sign_what_is_known(client)


def _guarded(pool: Any, *, allow_private: bool, seconds: float) -> type:
    connection = type(
        f"Guarded{pool.ConnectionCls.__name__}",
        (BoundedConnection, _Guarded, pool.ConnectionCls),
        {"allow_private": allow_private, "allowed_seconds": seconds},
    )
    return type(f"Guarded{pool.__name__}", (BoundedPool, pool), {"ConnectionCls": connection})


class _Guarded:
    """Resolves its host's name itself and connects by the addresses that were found to be allowed."""

    allow_private: bool
    _dns_host: str
    port: int

    def _new_conn(self) -> Any:
        # urllib3 keeps the name that it resolves in `_dns_host`, and asks certificates for `host`, which follows it.
        name = self._dns_host
        failure: Exception | None = None
        try:
            for address in endpoint_guard.resolve(name, self.port, allow_private=self.allow_private):
                self._dns_host = address
                try:
                    return super()._new_conn()  # type: ignore[misc]
                except Exception as error:
                    failure = error
        finally:
            self._dns_host = name
        assert failure is not None
        raise failure


def _check_proxied(proxies: Any, allow_private: bool, request: Any, **kwargs: Any) -> None:  # noqa: FBT001
    """Refuse a forbidden endpoint that a proxy would connect to in our place, as far as its name is known here."""
    if proxies.proxy_url_for(request.url):
        host = urlsplit(request.url)
        try:
            endpoint_guard.resolve(str(host.hostname), host.port or 443, allow_private=allow_private)
        except DeliveryError as error:
            if error.diagnosis is not diagnoses.HOST_NOT_FOUND:
                raise


def _stay(context: Any, **kwargs: Any) -> None:
    # What botocore's redirector notes when it has redirected once; it then lets the error through.
    context["s3_redirect"]["redirected"] = True


def _send_at_once(params: Any, **kwargs: Any) -> None:
    """Don't ask a store whether it would take a small file: asking costs a round trip, more than the file does."""
    if int(params["headers"].get("Content-Length", 0)) < ASK_FIRST_BYTES:
        params["headers"].pop("Expect", None)


def _sign_what_is_known(client: Any) -> None:
    """Let signatures take a body's SHA-256 from `body()` instead of computing it."""
    signer: Any = getattr(client, "_request_signer", None)
    make = getattr(signer, "get_auth_instance", None)
    if make is None:
        return

    def make_knowing(*args: Any, **kwargs: Any) -> Any:
        auth = make(*args, **kwargs)
        compute = getattr(auth, "payload", None)
        if compute is not None:
            auth.payload = lambda request: getattr(request.body, "known_sha256", "") or compute(request)
        return auth

    signer.get_auth_instance = make_knowing
