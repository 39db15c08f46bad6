"""The `Destination` protocol, which every kind of destination implements, and the values that the engine exchanges
with it.

This module does not import the client library of any kind of destination.
"""

import base64
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, Protocol

from django.db.models import TextChoices

from anaphora.foreign_text import clean_line, valid_identifier
from anaphora.reports.timestamps import iso_instant


class Integrity(TextChoices):
    """How far the store confirmed that it stored exactly the ingested bytes; the best first."""

    SHA256 = "sha256", "SHA-256 confirmed"
    ETAG = "etag", "MD5 confirmed"
    MD5 = "md5", "MD5 sent and accepted"
    NONE = "none", "not confirmed"


class Condition(TextChoices):
    """The outcome of the condition of a write (`If-None-Match: *`)."""

    MET = "met", "the key was free"
    EXISTED = "existed", "an earlier upload of the same content was there"
    REFUSED = "refused", "the store takes no condition; written without"
    NOT_MADE = "not made", "written without, as the store is known to take none"


class ProtectionGrade(TextChoices):
    """How the store protects an object from somebody with the interface's key; the best first."""

    LOCKED = "locked", "locked by the store"
    FORBIDDEN = "forbidden", "forbidden by permissions"
    VERSIONED = "versioned", "versioned only"
    UNPROTECTED = "unprotected", "unprotected"


@dataclass(frozen=True)
class Protection:
    """The result of an immutability check, with sentences for the page."""

    grade: ProtectionGrade
    text: str
    advice: str
    attempts: Mapping[str, str]
    """Each attempted request, with the store's answer."""
    checked_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return the result as values that JSON can represent."""
        return {
            "grade": self.grade.value,
            "text": self.text,
            "advice": self.advice,
            "attempts": dict(self.attempts),
            "checked_at": iso_instant(self.checked_at),
        }


@dataclass(frozen=True)
class Upload:
    """One object to store: its key, its metadata, and its digests in hexadecimal."""

    key: str
    size: int
    sha256: str
    md5: str
    content_type: str
    content_disposition: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """The store's answer to an upload. A value is empty if the answer lacks it."""

    object_key: str
    size: int
    sha256: str
    integrity: Integrity
    condition: Condition
    sha256_refused: bool = False
    """Whether the store accepted the upload only without the header with its SHA-256."""
    version_id: str = ""
    etag: str = ""
    retain_until: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "version_id", valid_identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", valid_identifier(self.etag, 255))


@dataclass(frozen=True)
class StoredObject:
    """A stored object, as the store describes it. A value is empty if the answer lacks it."""

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
        object.__setattr__(self, "version_id", valid_identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", valid_identifier(self.etag, 255))
        object.__setattr__(self, "content_type", clean_line(self.content_type, 200))

    def integrity(self, *, sha256: str, md5: str) -> Integrity:
        """Return how far the answer confirms that the object has these digests."""
        return integrity_of(sha256, md5, etag=self.etag, checksum=base64_of(self.sha256), accepted=False)


class ListedObject(NamedTuple):
    """An object in a listing. The ETag is empty if the listing lacks it."""

    key: str
    size: int
    etag: str


def integrity_of(sha256: str, md5: str, *, etag: str, checksum: str, accepted: bool) -> Integrity:
    """Return how far a store's answer confirms these digests. `checksum` is the SHA-256 in Base64, or empty."""
    if checksum and checksum == base64_of(sha256):
        return Integrity.SHA256
    if etag == md5:
        return Integrity.ETAG
    return Integrity.MD5 if accepted else Integrity.NONE


def base64_of(hexadecimal: str) -> str:
    """Return the Base64 form of a hexadecimal digest, as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


class Destination(Protocol):
    """Where one interface stores reports: one bucket, or the equivalent of another kind of destination.

    Many threads use one destination at the same time. Every method raises DeliveryError for failures in the catalogue;
    any other exception is a bug.
    """

    def prepare(self) -> None:
        """Initialize what all threads share. Called once, before they start."""

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        """Store the whole of `body`, which is seekable, as `upload.key`, unless an object with this key exists.

        An existing object with the same content was stored by an earlier attempt: return its receipt. Any other
        existing object is not changed: raise `errors.KEY_TAKEN`.
        """

    def head(self, key: str, version_id: str = "") -> StoredObject | None:
        """Return the description of an object, or None if there is no object with this key."""

    def stream(
        self, key: str, version_id: str = "", *, size: int, between: tuple[int, int] | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """Yield an object's bytes in chunks of at most a megabyte, and no more bytes than requested.

        `between` is a half-open range of bytes; None means all. If the object's length is not `size`, or its ETag is
        not `etag` (unless that is empty), raise `errors.OBJECT_CHANGED` before the first byte.
        """

    def list_objects(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Yield the objects whose keys begin with `prefix`, in the order of the keys, one page at a time."""

    def presigned_url(self, key: str, version_id: str, *, content_type: str, disposition: str) -> str:
        """Return a URL that serves the object with these headers for a minute; empty if not supported."""


class DestinationCache:
    """This process's destinations: one for each interface, kept until the interface's configuration changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Hashable, Destination]] = {}

    def get(self, interface_id: int, configuration: Hashable, make: Callable[[], Destination]) -> Destination:
        """Return the cached destination if its configuration is equal; otherwise make and prepare a new one."""
        with self._lock:
            held = self._held.get(interface_id)
            if held is None or held[0] != configuration:
                held = configuration, make()
                held[1].prepare()
                self._held[interface_id] = held
            return held[1]

    def clear(self) -> None:
        """Drop all cached destinations."""
        with self._lock:
            self._held.clear()


open_destinations = DestinationCache()
