"""Compares receipts with what the store holds now. It only reads: neither the store nor the database is changed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from django.conf import settings

from anaphora.deliveries import engine
from anaphora.deliveries.models import Delivery, State
from delivery_s3.diagnoses import DeliveryError
from delivery_s3.models import S3Interface
from delivery_s3.storage import ArchiveStorage

_CHUNK = 500


class Verdict(StrEnum):
    """What became of one receipt's object."""

    SAME = "same"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Finding:
    """One receipt, compared. `detail` says what differs, or why it could not be told."""

    delivery: Delivery
    verdict: Verdict
    detail: str = ""


def receipts(interface: S3Interface) -> int:
    """Return how many receipts of an interface there are to compare."""
    return Delivery.objects.filter(interface=interface, state=State.DELIVERED).count()


def verify(interface: S3Interface, *, full: bool = False) -> Iterator[Finding]:
    """Compare each receipt of an interface, the oldest first, by what the store says of the object.

    With `full`, each object is read from end to end and its SHA-256 taken. Needs s3:GetObject. Raises DeliveryError
    where the interface itself can't be used.
    """
    storage = engine.storage_of(interface)
    rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED).order_by("pk").iterator(_CHUNK)
    with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "verify") as pool:
        while chunk := list(islice(rows, _CHUNK)):
            yield from pool.map(lambda row: _compare(storage, row, full=full), chunk)


def _compare(storage: ArchiveStorage, row: Delivery, *, full: bool) -> Finding:
    try:
        stored = storage.look(row.object_key, row.version_id)
        if stored is None:
            return Finding(row, Verdict.MISSING)
        differences = []
        if stored.size != row.size:
            differences.append(f"{stored.size} bytes, the receipt says {row.size}")
        if row.etag and stored.etag != row.etag:
            differences.append(f"ETag {stored.etag}, the receipt says {row.etag}")
        sha256 = stored.sha256
        if full and not differences:
            sha256 = storage.digest(row.object_key, row.version_id, size=stored.size)
        if sha256 and sha256 != row.sha256:
            differences.append(f"SHA-256 {sha256}, the receipt says {row.sha256}")
    except DeliveryError as error:
        if error.diagnosis.code == "object_changed":
            return Finding(row, Verdict.CHANGED, error.detail)
        return Finding(row, Verdict.UNREADABLE, str(error))
    return Finding(row, Verdict.CHANGED if differences else Verdict.SAME, "; ".join(differences))
