"""RFC 3161 time stamps: a time-stamping authority confirms that a manifest existed at a time."""

import http.client
import urllib.error
import urllib.request
from hashlib import sha256
from typing import Any

from rfc3161_client import HashAlgorithm, PKIStatus, TimestampRequestBuilder, decode_timestamp_response

from anaphora.foreign_text import clean_line

TIMEOUT = 10
"""Seconds."""

LARGEST = 64 * 1024
"""Bytes of an authority's response."""


class NoTimeStamp(Exception):  # noqa: N818  # a state of a manifest, not a malfunction
    """The authority returned no valid time stamp; the message says why."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


def fetch(url: str, content: bytes) -> bytes:
    """Request a time stamp of `content`; return the DER TimeStampResp, which `openssl ts -verify -in` accepts.

    The response is checked to belong to this content and this request. Its signature is not checked here: an auditor
    checks it with the authority's certificate. Raises NoTimeStamp.
    """
    request = TimestampRequestBuilder().data(content).hash_algorithm(HashAlgorithm.SHA256).build()
    asked = urllib.request.Request(  # noqa: S310  # the setting takes http and https only
        url, request.as_bytes(), {"Content-Type": "application/timestamp-query"}
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(asked, timeout=TIMEOUT) as answer:
            der: bytes = answer.read(LARGEST + 1)
        if len(der) > LARGEST:
            raise NoTimeStamp("The time-stamping authority's response is too long.")
        der = in_canonical_order(der)
        response = decode_timestamp_response(der)
        if response.status not in {PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS}:
            raise NoTimeStamp(f"The time-stamping authority refused: {clean_line(str(response.status_string), 200)}.")
        found = response.tst_info
    except (OSError, ValueError, http.client.HTTPException, urllib.error.URLError) as error:
        raise NoTimeStamp(
            f"The time-stamping authority returned no valid response: {clean_line(str(error), 200)}."
        ) from error
    if found.message_imprint.message != sha256(content).digest() or found.nonce != request.nonce:
        raise NoTimeStamp("The time-stamping authority's response belongs to another request.")
    return der


def in_canonical_order(der: bytes) -> bytes:
    """Return a TimeStampResp with its certificates in the order that DER prescribes for a SET OF.

    Authorities that run openssl use another order, which rfc3161-client refuses. No signature covers the order. Raises
    ValueError if `der` is not DER.
    """
    at, end = _content(der, 0)  # TimeStampResp: status, token
    at = _content(der, at)[1]
    if at >= end:
        return der  # the authority refused, so there is no token
    at = _content(der, at)[0]  # ContentInfo: type, [0] content
    at = _content(der, _content(der, at)[1])[0]
    at, end = _content(der, at)  # SignedData: version, digests, content, [0] certificates
    for _ in range(3):
        at = _content(der, at)[1]
    if der[at] != 0xA0:
        return der
    start, end = _content(der, at)
    certificates, at = [], start
    while at < end:
        following = _content(der, at)[1]
        certificates.append(der[at:following])
        at = following
    return der[:start] + b"".join(sorted(certificates)) + der[end:]


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Return the start and the end of the content of the DER element at `at`."""
    if at + 2 > len(der):
        raise ValueError("The answer is cut short")
    start, length = at + 2, der[at + 1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise ValueError("The answer is cut short")
    return start, start + length
