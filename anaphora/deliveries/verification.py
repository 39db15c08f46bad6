"""Compares receipts with the objects in the store. It changes neither the store nor the database."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from django.conf import settings

from anaphora.deliveries import errors
from anaphora.deliveries.destinations import Destination
from anaphora.deliveries.errors import DeliveryError, Diagnosis
from anaphora.deliveries.models import Delivery, Interface, State

_CHUNK = 500


class Verdict(StrEnum):
    """The result of comparing one receipt with its object."""

    SAME = "same"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Finding:
    """The result for one receipt. `detail` says what differs, or why the object could not be compared."""

    delivery: Delivery
    verdict: Verdict
    detail: str = ""
    diagnosis: Diagnosis | None = None
    """Why an object is unreadable."""


def count_receipts(interface: Interface) -> int:
    """Return how many receipts an interface has."""
    return Delivery.objects.filter(interface=interface, state=State.DELIVERED).count()


def verify(interface: Interface, *, full: bool = False) -> Iterator[Finding]:
    """Compare each receipt of an interface, the oldest first, with the size, ETag and checksum that the store returns.

    With `full`, each object is also downloaded and its SHA-256 computed. Requires permission to read objects. Raises
    DeliveryError if the interface itself cannot be used.
    """
    destination = interface.destination()
    rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED).order_by("pk").iterator(_CHUNK)
    with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "verify") as pool:
        while chunk := list(islice(rows, _CHUNK)):
            yield from pool.map(lambda row: _compare(destination, row, full=full), chunk)


def verify_one(row: Delivery, *, full: bool) -> Finding:
    """Compare one receipt as `verify` does. If the interface cannot be used, the verdict is UNREADABLE."""
    try:
        destination = row.interface.destination()
    except DeliveryError as error:
        return Finding(row, Verdict.UNREADABLE, str(error), error.diagnosis)
    return _compare(destination, row, full=full)


def _compare(destination: Destination, row: Delivery, *, full: bool) -> Finding:
    try:
        stored = destination.head(row.object_key, row.version_id)
        if stored is None:
            return Finding(row, Verdict.MISSING)
        differences = []
        if stored.size != row.size:
            differences.append(f"{stored.size} bytes, the receipt says {row.size}")
        if row.etag and stored.etag != row.etag:
            differences.append(f"ETag {stored.etag}, the receipt says {row.etag}")
        sha256 = stored.sha256
        if full and not differences:
            sha256 = _digest(destination.stream(row.object_key, row.version_id, size=stored.size))
        if sha256 and sha256 != row.sha256:
            differences.append(f"SHA-256 {sha256}, the receipt says {row.sha256}")
    except DeliveryError as error:
        if error.diagnosis is errors.OBJECT_CHANGED:
            return Finding(row, Verdict.CHANGED, error.detail)
        return Finding(row, Verdict.UNREADABLE, str(error), error.diagnosis)
    return Finding(row, Verdict.CHANGED if differences else Verdict.SAME, "; ".join(differences))


def _digest(chunks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()
