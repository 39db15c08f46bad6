from ipaddress import ip_address
from typing import Any

import pytest

from anaphora.deliveries.errors import DeliveryError
from anaphora.forbidden_addresses import why_forbidden
from delivery_s3 import endpoint_guard
from delivery_s3.connection import Connection
from delivery_s3.storage import S3Destination
from tests.support import servers
from tests.support.processes import in_namespace

ALWAYS_FORBIDDEN = [
    "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "ff02::1", "fd00:ec2::254",
    "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd00:100::100:200",
    "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254", "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1", "2001:db8::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fec0::1", "64:ff9b::10.0.0.1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "52.216.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]


@pytest.mark.parametrize("address", ALWAYS_FORBIDDEN)
def test_some_addresses_are_always_refused(address: str) -> None:
    for allow_private in (True, False):
        assert why_forbidden(ip_address(address), allow_private=allow_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_depend_on_the_setting(address: str) -> None:
    assert why_forbidden(ip_address(address), allow_private=True) == ""
    assert "forbids" in why_forbidden(ip_address(address), allow_private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert why_forbidden(ip_address(address), allow_private=False) == ""


@pytest.mark.parametrize("host", ["2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518", "[fe80::1]", "0"])
def test_no_notation_of_an_address_bypasses_the_guard(host: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        endpoint_guard.resolve(host, 80, allow_private=True)
    assert caught.value.diagnosis.code == "endpoint_forbidden"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300, "a..b"])
def test_an_invalid_host_name_is_not_found(host: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        endpoint_guard.resolve(host, 80, allow_private=True)
    assert caught.value.diagnosis.code == "host_not_found"


def test_one_forbidden_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*args: Any, **kwargs: Any) -> Any:
        return [(2, 1, 6, "", ("1.1.1.1", 80)), (2, 1, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr("socket.getaddrinfo", answer)
    with pytest.raises(DeliveryError, match=r"169\.254\.169\.254"):
        endpoint_guard.resolve("both.example", 80, allow_private=True)


@pytest.mark.parametrize(
    ("host", "internal"),
    [
        ("localhost", True),
        ("minio", True),
        ("a.lan", True),
        ("10.1.2.3", True),
        ("[::1]", True),
        ("s3.example.com", False),
        ("8.8.8.8", False),
    ],
)
def test_internal_hosts_are_recognized_by_their_form(host: str, internal: bool) -> None:  # noqa: FBT001
    assert endpoint_guard.is_internal(host) is internal


class TestWire:
    """The guard checks the connection itself, in deliveries and in tests."""

    def test_a_client_connects_only_to_addresses_from_the_guard(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.delivery_s3.test_storage import put

        asked: list[str] = []
        resolve = endpoint_guard.resolve

        def watched(host: str, port: int, *, allow_private: bool) -> list[str]:
            asked.append(host)
            return resolve(host, port, allow_private=allow_private)

        monkeypatch.setattr(endpoint_guard, "resolve", watched)
        put(connection)
        assert asked == ["127.0.0.1"]

    def test_the_patched_internals_of_botocore_exist(self, connection: Connection) -> None:
        storage = S3Destination(connection)
        session: Any = storage.client._endpoint.http_session  # type: ignore[attr-defined]
        for scheme in ("http", "https"):
            pool = session._manager.pool_classes_by_scheme[scheme]
            assert pool is session._pool_classes_by_scheme[scheme]
            assert "_GuardedConnection" in {each.__name__ for each in pool.ConnectionCls.__mro__}

    def test_an_endpoint_behind_a_proxy_is_checked_too(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import dataclasses

        from tests.delivery_s3.test_storage import code_of, put

        with servers.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, seen):
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
            metadata = dataclasses.replace(connection, endpoint_url="http://169.254.169.254")
            assert code_of(lambda: put(metadata)) == "endpoint_forbidden"
        assert seen == []


@pytest.mark.namespace
@pytest.mark.parametrize("scenario", ["forbidden addresses", "names", "a name that changes its answer", "redirects"])
def test_no_packet_goes_to_a_forbidden_address(scenario: str) -> None:
    """Runs in a network namespace where servers at these addresses record each connection."""
    assert "as it should be" in in_namespace("tests.support.guard_scenarios", scenario)
