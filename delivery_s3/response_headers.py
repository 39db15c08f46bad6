"""Reads checksum and length from the headers of responses. No I/O."""

import base64
import contextlib
from collections.abc import Mapping
from typing import Any

from anaphora.deliveries import errors
from anaphora.deliveries.errors import DeliveryError


def sha256_of(checksum: str) -> str:
    """Convert the Base64 SHA-256 of a whole object to hexadecimal; empty for multipart or invalid checksums."""
    with contextlib.suppress(ValueError):
        digest = base64.b64decode(checksum, validate=True)
        return digest.hex() if len(digest) == 32 else ""
    return ""


def check_length(answer: Mapping[str, Any], start: int, end: int, *, size: int, partial: bool) -> None:
    """Raise DeliveryError unless the headers of an answer match the requested range and the size of the object."""
    length = answer.get("ContentLength")
    if not partial:
        if length is not None and length != size:
            raise DeliveryError(errors.OBJECT_CHANGED, f"The object has {length:,} bytes; {size:,} were archived")
        return
    found, wanted = answer.get("ContentRange", ""), f"bytes {start}-{end - 1}/{size}"
    # The status is not reliable: rclone answers a range request with 200.
    if found != wanted or length not in {None, end - start}:
        raise DeliveryError(errors.OBJECT_CHANGED, f"{wanted} was requested, but the store sends {found or 'all'}")
