"""What this delivery app answers when reports ask where they are, whether they are safe, and for their bytes."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse

from anaphora.deliveries import engine
from anaphora.deliveries.archives import Broken, Evidence, NotReadable, Safety, Whereabouts
from anaphora.deliveries.destinations import Integrity
from anaphora.deliveries.models import ArchivePolicy, Delivery, State, diagnosis_of
from anaphora.reports.models import Report
from delivery_s3.diagnoses import DeliveryError

logger = logging.getLogger(__name__)


def whereabouts(reports: Collection[UUID]) -> dict[UUID, list[Whereabouts]]:
    """Return the deliveries of the reports, by interface name, from one query."""
    found: dict[UUID, list[Whereabouts]] = defaultdict(list)
    rows = Delivery.objects.filter(report__in=reports).select_related("interface").order_by("interface__name")
    for row in rows:
        diagnosis = diagnosis_of(row)
        found[row.report_id].append(
            Whereabouts(
                destination=row.interface.name,
                state=row.state,
                detail=diagnosis.title if diagnosis else row.object_key,
                url=reverse("admin:deliveries_delivery_change", args=[row.pk]),
            )
        )
    return found


def safety(reports: Collection[UUID], integrity: str) -> dict[UUID, Safety]:
    """Return whether each report is delivered wherever it has a delivery, and wherever an enabled policy wants it."""
    enough = Integrity.values[: Integrity.values.index(integrity) + 1]
    wanted = _wanted(reports)
    delivered: dict[UUID, dict[int, datetime | None]] = defaultdict(dict)
    for row in Delivery.objects.filter(report__in=reports):
        safe = row.state == State.DELIVERED and row.integrity in enough
        delivered[row.report_id][row.interface_id] = row.delivered_at if safe else None
    found = {}
    for report in wanted.keys() | delivered.keys():
        places = delivered[report]
        moments = [places.get(interface) for interface in wanted[report] | places.keys()]
        safe_moments = [moment for moment in moments if moment is not None]
        found[report] = Safety(max(safe_moments) if len(safe_moments) == len(moments) else None)
    return found


def _wanted(reports: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return the interfaces to which enabled policies, scheduled or not, want each of the reports."""
    rows = list(Report.objects.filter(pk__in=reports).values_list("pk", "dashboard_id"))
    covering = ArchivePolicy.objects.filter(
        Q(dashboards__isnull=True) | Q(dashboards__in={dashboard for _, dashboard in rows}), enabled=True
    ).values_list("interface_id", "dashboards")
    wanted: dict[UUID, set[int]] = defaultdict(set)
    for report, dashboard in rows:
        for interface, chosen in covering:
            if chosen is None or chosen == dashboard:
                wanted[report].add(interface)
    return wanted


def evidence(report: Report) -> list[Evidence]:
    """Return the receipts of a report in words, by interface name."""
    rows = Delivery.objects.filter(report=report, state=State.DELIVERED).select_related("interface")
    return [
        Evidence(
            destination=row.interface.name,
            place=f"bucket {row.interface.bucket_name} at {row.interface.endpoint_url or 'AWS S3'}",
            name=row.object_key,
            version=row.version_id,
            stored_at=cast("datetime", row.delivered_at),
            integrity=INTEGRITY_WORDS[Integrity(row.integrity or Integrity.NONE)],
            retention=_retention(row),
        )
        for row in rows.order_by("interface__name")
    ]


INTEGRITY_WORDS = {
    Integrity.SHA256: "The store computed the SHA-256 of what it holds, and it is this report's.",
    Integrity.ETAG: "The store answered with the MD5 of what it holds, and it is this report's.",
    Integrity.MD5: "The store was told the MD5 and accepted the file, so it compared the two.",
    Integrity.NONE: "The store confirmed that it holds a file of this key, and said nothing of its bytes.",
}


def _retention(row: Delivery) -> str:
    if row.retain_until is None:
        return "No retention was asked for: who may delete in this bucket can remove it."
    until = f"{row.retain_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"Locked until {until}: before, this version can be neither changed nor removed."


def content(report: Report, start: int, end: int) -> Iterator[bytes] | None:
    """Return bytes of a report, from `start` up to before `end`, from the first store that lets us read them.

    The whole of them are compared with the report's SHA-256 while they pass: the last of them are given only after
    that, so a small report is given whole or not at all, and of a larger one that is not the report the stream breaks
    off. A part comes only of an object that still has the ETag of the receipt; where there is none, the whole object
    is read for it.
    """
    refusal = None
    for row in _receipts(report):
        try:
            chunks = _of_receipt(row, report, start, end)
            return _resumed(next(chunks, b""), chunks)
        except Broken as error:
            refusal = NotReadable(f"{row.interface} holds {row.object_key}, but {error}")
            logger.error("Not shown from %s: %s", row.interface, error)
        except DeliveryError as error:
            refusal = NotReadable(
                f"The report is in {row.interface} as {row.object_key}, but cannot be read there: "
                f"{error.diagnosis.title}. Reading needs s3:GetObject for the interface's key; archiving does not."
            )
            logger.warning("Not read from %s: %s", row.interface, error)
    if refusal:
        raise refusal
    return None


def _resumed(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield `first` and what follows. Unlike itertools' chain, it ends the request when it is closed."""
    yield first
    yield from chunks


def _of_receipt(row: Delivery, report: Report, start: int, end: int) -> Iterator[bytes]:
    """Yield bytes of a report from the store of one receipt. Raises DeliveryError up to the first, then Broken."""
    storage = engine.storage_of(row.interface)
    if (start, end) != (0, report.size) and row.etag:
        chunks = storage.stream(row.object_key, row.version_id, size=report.size, between=(start, end), etag=row.etag)
        first = next(chunks, b"")
        yield first
        yield from _unbroken(chunks)
        return
    chunks = storage.stream(row.object_key, row.version_id, size=report.size)
    first = next(chunks, b"")
    position = 0
    for chunk in _verified(_resumed(first, _unbroken(chunks)), report):
        yield_from, yield_to = max(start - position, 0), max(end - position, 0)
        position += len(chunk)
        if part := chunk[yield_from:yield_to]:
            yield part


def link(report: Report, disposition: str) -> str:
    """Return a presigned address of the object, which works for a minute; empty where none can be made."""
    for row in _receipts(report):
        with suppress(DeliveryError):
            return engine.storage_of(row.interface).presigned(
                row.object_key, row.version_id, content_type=report.content_type, disposition=disposition
            )
    return ""


def _receipts(report: Report) -> QuerySet[Delivery]:
    return Delivery.objects.filter(report=report, state=State.DELIVERED).select_related("interface").order_by("pk")


def _verified(chunks: Iterator[bytes], report: Report) -> Iterator[bytes]:
    """Pass a report's bytes on, the last of them only once they are known to be the report's. Raises Broken."""
    digest, size, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        size += len(chunk)
        if size > report.size:
            raise Broken(f"it has more than the report's {report.size:,} bytes.")
        if held:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != report.sha256:
        raise Broken(f"its SHA-256 is {digest.hexdigest()}, not the report's.")
    yield held


def _unbroken(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except DeliveryError as error:
        raise Broken(f"the store broke off: {error.diagnosis.title}.") from error
