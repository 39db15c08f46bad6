"""The `Destination` protocol: what a kind of destination offers the engine, and the values that pass between the two.

This module imports no client library of any kind of destination.
"""

import base64
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from django.db.models import TextChoices

from anaphora.foreign_text import clean_line, valid_identifier
from anaphora.reports.timestamps import iso_instant


class Integrity(TextChoices):
    """How far the store confirmed that it holds the very bytes that came in; the best first."""

    SHA256 = "sha256", "SHA-256 confirmed"
    ETAG = "etag", "MD5 confirmed"
    MD5 = "md5", "MD5 sent and accepted"
    NONE = "none", "not confirmed"


class Condition(TextChoices):
    """What the store did with the condition of a write, that no object has its key yet."""

    MET = "met", "the key was free"
    EXISTED = "existed", "an earlier upload of the same content was there"
    REFUSED = "refused", "the store takes no condition; written without"
    NOT_MADE = "not made", "written without, as the store is known to take none"


class ProtectionGrade(TextChoices):
    """How the store protects an object from whoever has the interface's key; the best first."""

    LOCKED = "locked", "locked by the store"
    FORBIDDEN = "forbidden", "forbidden by permissions"
    VERSIONED = "versioned", "versioned only"
    UNPROTECTED = "unprotected", "unprotected"


@dataclass(frozen=True)
class Protection:
    """What an immutability check found, in words."""

    grade: ProtectionGrade
    text: str
    advice: str
    attempts: Mapping[str, str]
    """What was tried, and what the store answered."""
    checked_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
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
        object.__setattr__(self, "version_id", valid_identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", valid_identifier(self.etag, 255))


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
        object.__setattr__(self, "version_id", valid_identifier(self.version_id, 1024))
        object.__setattr__(self, "etag", valid_identifier(self.etag, 255))
        object.__setattr__(self, "content_type", clean_line(self.content_type, 200))

    def integrity(self, *, sha256: str, md5: str) -> Integrity:
        """Return how far this confirms that the object has these digests."""
        return integrity_of(sha256, md5, etag=self.etag, checksum=base64_of(self.sha256), accepted=False)


@dataclass(frozen=True)
class ListedObject:
    """What a listing says of an object. An empty ETag: it doesn't say."""

    key: str
    size: int
    etag: str


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


class Destination(Protocol):
    """Where one interface puts reports: one bucket, or what takes its place.

    Many threads use one destination at the same time. Every method raises DeliveryError for what the catalogue knows;
    anything else that it raises is a bug.
    """

    def prepare(self) -> None:
        """Do once what all threads share, before they start."""

    def put(self, upload: Upload, body: BinaryIO) -> Receipt:
        """Store `body`, from its start to its end, under `upload.key`, unless an object is there already.

        An object that is there already with the same content is an earlier success of the same upload and gets its
        receipt now; any other is left as it is and is `errors.KEY_TAKEN`. `body` is seekable.
        """

    def head(self, key: str, version_id: str = "") -> StoredObject | None:
        """Return what the store says of an object, None if it has none of that key."""

    def stream(
        self, key: str, version_id: str = "", *, size: int, between: tuple[int, int] | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """Yield an object's bytes in chunks of a megabyte at most.

        `between` is a half-open range of them. An object of another length than `size`, or of another ETag than `etag`
        (empty: any), is `errors.OBJECT_CHANGED` before its first byte; no more bytes are yielded than were asked for.
        """

    def list_objects(self, prefix: str) -> Iterator[list[ListedObject]]:
        """Yield the objects whose keys begin with `prefix`, in the order of the keys, some at a time."""

    def presigned_url(self, key: str, version_id: str, *, content_type: str, disposition: str) -> str:
        """Return an address from which anybody gets the object for a minute, under these headers; empty for none."""


class DestinationCache:
    """This process's destinations: one for each interface, kept until the interface's configuration changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Hashable, Destination]] = {}

    def get(self, interface_id: int, configuration: Hashable, make: Callable[[], Destination]) -> Destination:
        """Return the destination that was made for an equal configuration; else make one and prepare it."""
        with self._lock:
            held = self._held.get(interface_id)
            if held is None or held[0] != configuration:
                held = configuration, make()
                held[1].prepare()
                self._held[interface_id] = held
            return held[1]

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._held.clear()


open_destinations = DestinationCache()
