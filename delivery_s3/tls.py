"""Looks at the TLS side of an endpoint: what was agreed on, and which certificates it shows.

Trust is decided by verification alone, here as in every request. Only after it has failed is the endpoint asked once
more for its certificates without verification, to show them to the administrator; nothing else is sent over that
connection.
"""

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from anaphora.foreign_text import words


@dataclass(frozen=True)
class Certificate:
    """What an administrator goes by when deciding whether to trust."""

    subject: str
    issuer: str
    valid_from: datetime
    valid_until: datetime
    fingerprint: str
    """SHA-256, in pairs of hexadecimal digits."""
    pem: str

    @property
    def self_signed(self) -> bool:
        """Whether it claims to have issued itself."""
        return self.subject == self.issuer


class CertificateUnreadableError(OSError):
    """A certificate that OpenSSL lets pass and that the standard (RFC 5280) doesn't: of no version, or with no date."""


def readable(pem: str) -> bool:
    """Tell whether a text holds certificates in PEM form and nothing that OpenSSL can't read."""
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return True


def pin(context: ssl.SSLContext) -> None:
    """Let any trusted certificate end a chain, not only a self-signed one: what is in the CA bundle is trusted."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def handshake(
    address: str, port: int, host: str, *, cafile: str, pinned: bool, timeout: float
) -> tuple[str, Certificate]:
    """Make a verified TLS connection; return the protocol's version and the endpoint's certificate.

    `cafile` names the trusted certificates; with `pinned` each of them ends a chain. Raises OSError, of which
    ssl.SSLError and CertificateUnreadableError are some.
    """
    context = ssl.create_default_context(cafile=cafile)
    if pinned:
        pin(context)
    with (
        socket.create_connection((address, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
        assert der is not None
        return secure.version() or "TLS", _certificate(der)


def shown_chain(address: str, port: int, host: str, *, timeout: float) -> list[Certificate]:
    """Return the certificates that an endpoint shows, its own first, trusted or not. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return [_certificate(der) for der in _ders(secure)]


def speaks_tls(address: str, port: int, host: str, *, timeout: float) -> bool:
    """Tell whether a port speaks TLS at all."""
    try:
        return bool(shown_chain(address, port, host, timeout=timeout))
    except CertificateUnreadableError:
        return True
    except OSError:
        return False


def _ders(secure: ssl.SSLSocket) -> list[bytes]:
    # Public since Python 3.13; before, the inner object has it.
    if hasattr(secure, "get_unverified_chain"):
        return list(secure.get_unverified_chain())
    inner: Any = secure._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner.get_unverified_chain()]


def _certificate(der: bytes) -> Certificate:
    try:
        parsed = x509.load_der_x509_certificate(der)
        return _described(parsed)
    except (ValueError, TypeError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise CertificateUnreadableError(words(str(error))) from error


def _described(parsed: x509.Certificate) -> Certificate:
    return Certificate(
        subject=parsed.subject.rfc4514_string() or "(empty)",
        issuer=parsed.issuer.rfc4514_string() or "(empty)",
        valid_from=parsed.not_valid_before_utc,
        valid_until=parsed.not_valid_after_utc,
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(":").upper(),
        pem=parsed.public_bytes(serialization.Encoding.PEM).decode(),
    )
