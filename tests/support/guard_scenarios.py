"""The program that `test_endpoint_guard` runs in a network namespace, with servers at forbidden addresses.

`python -m tests.support.guard_scenarios SCENARIO`, inside `unshare --net --mount --map-root-user`. No packet can leave
the namespace.
"""

import dataclasses
import io
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

FORBIDDEN = ["169.254.169.254", "169.254.7.7", "100.100.100.200"]
ALLOWED = "10.20.30.40"
OK = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'


class Listener:
    """Listens on port 80 of an address and records each connection."""

    def __init__(self, address: str, answer: bytes = OK) -> None:
        self.visits = 0
        self._answer = answer
        self._socket = socket.create_server((address, 80))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._socket.accept()
            self.visits += 1
            with client:
                client.settimeout(0.5)
                try:
                    client.recv(65536)
                    client.sendall(self._answer)
                except OSError:
                    pass


def serve_names(answers: dict[str, list[str]]) -> None:
    """Run a name server on 127.0.0.1 that returns each name's answers in turn, then always the last, with TTL 0."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(512)
            labels, position = [], 12
            while query[position]:
                labels.append(query[position + 1 : position + 1 + query[position]].decode())
                position += 1 + query[position]
            question = query[12 : position + 5]
            kind = struct.unpack("!H", question[-4:-2])[0]
            found = answers.get(".".join(labels), [])
            head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, 1 if found and kind == 1 else 0, 0, 0)
            answer = b""
            if found and kind == 1:
                address = found.pop(0) if len(found) > 1 else found[0]
                answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
            server.sendto(head + question + answer, client)

    threading.Thread(target=serve, daemon=True).start()
    resolver = Path(tempfile.mkdtemp()) / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)


def try_all_ways(endpoint: str) -> set[str]:
    """Upload to and test an endpoint; return the codes of the diagnoses."""
    from anaphora.deliveries.errors import DeliveryError
    from anaphora.secret import Secret
    from delivery_s3.connection import Connection
    from delivery_s3.connection_test.runner import ConnectionTest
    from delivery_s3.storage import S3Destination
    from tests.delivery_s3.test_storage import make_upload

    connection = Connection("KEY", Secret("SECRET"), "us-east-1", "bucket", endpoint, connect_timeout=2, read_timeout=2)
    codes = set()
    for attempt in (connection, dataclasses.replace(connection, addressing_style="virtual")):
        try:
            S3Destination(attempt).put(make_upload(b"x"), io.BytesIO(b"x"))
            codes.add("stored")
        except DeliveryError as error:
            codes.add(error.diagnosis.code)
    test = ConnectionTest(connection, prefix="")
    list(test.steps())
    diagnosis = test.report().diagnosis
    codes.add(diagnosis.code if diagnosis else "passed")
    return codes


def main(scenario: str) -> None:
    """Run one scenario. Raises AssertionError if a forbidden address was reached."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in [*FORBIDDEN, ALLOWED]:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    forbidden = [Listener(address) for address in FORBIDDEN]
    if scenario == "forbidden addresses":
        for host in [*FORBIDDEN, "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]"]:
            codes = try_all_ways(f"http://{host}")
            assert codes <= {"endpoint_forbidden", "host_not_found", "settings_invalid"}, (host, codes)
    elif scenario == "names":
        serve_names({"meta.test": ["169.254.169.254"], "bucket.meta.test": ["169.254.169.254"]})
        assert try_all_ways("http://meta.test") == {"endpoint_forbidden"}
    elif scenario == "a name that changes its answer":
        allowed = Listener(ALLOWED)
        turns = [ALLOWED, *["169.254.169.254"] * 50]
        serve_names({"rebind.test": list(turns), "bucket.rebind.test": list(turns)})
        codes = try_all_ways("http://rebind.test")
        assert "endpoint_forbidden" in codes, codes
        assert allowed.visits, "the first answer was allowed, so the connection was made"
    elif scenario == "redirects":
        for status in (301, 302, 307, 308):
            answer = f"HTTP/1.1 {status} Moved\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
            address = f"10.20.31.{status - 300}"
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
            listener = Listener(address, answer.encode())
            assert try_all_ways(f"http://{address}") <= {"redirected", "host_not_found"}
            assert listener.visits
    assert [listener.visits for listener in forbidden] == [0] * len(forbidden)
    print("as it should be")  # noqa: T201


if __name__ == "__main__":
    import django

    django.setup()
    main(sys.argv[1])
