"""Makes TLS connections to an endpoint for the connection test, and reads its certificates.

Trust is decided only by certificate verification, as in every request. If verification fails, a second connection reads
the certificates without verification, to show them to the administrator. No data is sent over that connection.
"""

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from anaphora.foreign_text import clean_line


@dataclass(frozen=True)
class Certificate:
    """The details of a certificate that an administrator needs to decide whether to trust it."""

    subject: str
    issuer: str
    valid_from: datetime
    valid_until: datetime
    fingerprint: str
    """SHA-256 as pairs of hexadecimal digits, separated by colons."""
    pem: str

    @property
    def self_signed(self) -> bool:
        """Whether subject and issuer are the same. The signature is not checked."""
        return self.subject == self.issuer


class CertificateUnreadableError(OSError):
    """A certificate that OpenSSL accepts but that violates RFC 5280, for example in its version or a date."""


def is_readable_pem(pem: str) -> bool:
    """Return whether OpenSSL can read all certificates of a PEM text, and there is at least one."""
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return True


def trust_all_anchors(context: ssl.SSLContext) -> None:
    """Make every trusted certificate a trust anchor, not only self-signed ones."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def handshake(
    address: str, port: int, host: str, *, cafile: str, pinned: bool, timeout: float
) -> tuple[str, Certificate]:
    """Make a verified TLS connection; return the TLS version and the certificate of the endpoint.

    `cafile` is the path of the trusted certificates. With `pinned`, each of them is a trust anchor. Raises OSError,
    also as ssl.SSLError or CertificateUnreadableError.
    """
    context = ssl.create_default_context(cafile=cafile)
    if pinned:
        trust_all_anchors(context)
    with (
        socket.create_connection((address, port), timeout) as tcp_socket,
        context.wrap_socket(tcp_socket, server_hostname=host) as tls_socket,
    ):
        der = tls_socket.getpeercert(binary_form=True)
        assert der is not None
        return tls_socket.version() or "TLS", _parse_certificate(der)


def unverified_chain(address: str, port: int, host: str, *, timeout: float) -> list[Certificate]:
    """Return the certificate chain of an endpoint without verification, its own certificate first. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout) as tcp_socket,
        context.wrap_socket(tcp_socket, server_hostname=host) as tls_socket,
    ):
        return [_parse_certificate(der) for der in _chain_as_der(tls_socket)]


def speaks_tls(address: str, port: int, host: str, *, timeout: float) -> bool:
    """Return whether a TLS handshake with the port succeeds, without verification."""
    try:
        return bool(unverified_chain(address, port, host, timeout=timeout))
    except CertificateUnreadableError:
        return True
    except OSError:
        return False


def _chain_as_der(tls_socket: ssl.SSLSocket) -> list[bytes]:
    # Public since Python 3.13. Older versions have it only on the inner object.
    if hasattr(tls_socket, "get_unverified_chain"):
        return list(tls_socket.get_unverified_chain())
    inner: Any = tls_socket._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain()]


def _parse_certificate(der: bytes) -> Certificate:
    try:
        parsed = x509.load_der_x509_certificate(der)
        return _describe(parsed)
    except (ValueError, TypeError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise CertificateUnreadableError(clean_line(str(error))) from error


def _describe(parsed: x509.Certificate) -> Certificate:
    return Certificate(
        subject=parsed.subject.rfc4514_string() or "(empty)",
        issuer=parsed.issuer.rfc4514_string() or "(empty)",
        valid_from=parsed.not_valid_before_utc,
        valid_until=parsed.not_valid_after_utc,
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(":").upper(),
        pem=parsed.public_bytes(serialization.Encoding.PEM).decode(),
    )
