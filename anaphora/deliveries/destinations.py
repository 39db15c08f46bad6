"""What a destination takes and answers: the values that pass between the engine and a kind of destination.

This module imports no client library of any kind of destination.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import TextChoices

from anaphora.foreign_text import identifier, words


class Integrity(TextChoices):
    """How far the store confirmed that it holds the very bytes that came in; the best first."""

    SHA256 = "sha256", "SHA-256 confirmed"
    ETAG = "etag", "MD5 confirmed"
    MD5 = "md5", "MD5 sent and accepted"
    NONE = "none", "not confirmed"


class Condition(TextChoices):
    """What became of the condition that a write made, namely that its key be free."""

    MET = "met", "the key was free"
    EXISTED = "existed", "an earlier upload of the same content was there"
    REFUSED = "refused", "the store takes no condition; written without"
    NOT_MADE = "not made", "written without, as the store is known to take none"


@dataclass(frozen=True)
class Upload:
    """One object to be: its key, what describes it, and its digests in hexadecimal."""

    key: str
    size: int
    sha256: str
    md5: str
    content_type: str
    content_disposition: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """What the store answered, as far as it did. Empty: it didn't say."""

    object_key: str
    size: int
    sha256: str
    integrity: Integrity
    condition: Condition
    sha256_refused: bool = False
    """Whether the store took the upload only without the header that names its SHA-256."""
    version_id: str = ""
    etag: str = ""
    retain_until: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "version_id", identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", identifier(self.etag, 255))


@dataclass(frozen=True)
class StoredObject:
    """What a store says of an object that it holds. Empty: it doesn't say."""

    size: int
    etag: str
    sha256: str
    """Hexadecimal."""
    modified_at: datetime
    version_id: str = ""
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The `x-amz-meta-*` values, without that prefix."""
    retain_until: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "version_id", identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", identifier(self.etag, 255))
        object.__setattr__(self, "content_type", words(self.content_type, 200))

    def integrity(self, *, sha256: str, md5: str) -> Integrity:
        """Return how far this confirms that the object has these digests."""
        return integrity_of(sha256, md5, etag=self.etag, checksum=base64_of(self.sha256), accepted=False)


def integrity_of(sha256: str, md5: str, *, etag: str, checksum: str, accepted: bool) -> Integrity:
    """Return how far a store's answer, its `checksum` in Base64, confirms what came in."""
    if checksum and checksum == base64_of(sha256):
        return Integrity.SHA256
    if etag == md5:
        return Integrity.ETAG
    return Integrity.MD5 if accepted else Integrity.NONE


def base64_of(hexadecimal: str) -> str:
    """Return the Base64 form of a hexadecimal digest, as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
