"""Answers questions from receipts: since when a report is safe, and where it is stored, in words for an auditor."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from anaphora.deliveries import policies
from anaphora.deliveries.destinations import Integrity
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.reports.models import Report


@dataclass(frozen=True)
class StoredAt:
    """One receipt of a report, with sentences for an auditor."""

    destination: str
    place: str
    """Bucket and endpoint, or the equivalent of another kind of destination."""
    key: str
    version_id: str
    """Empty if there is none."""
    delivered_at: datetime
    integrity: str
    """A sentence: how far the store confirmed that its bytes are the report's."""
    retention: str
    """A sentence: until when the store prevents its removal."""


def safe_since(reports: Collection[UUID], integrity: str) -> dict[UUID, datetime]:
    """Return since when each safe report has been safe.

    A report is safe if it was delivered, with at least this integrity, to every interface for which it has a delivery
    or which a policy requires. Other reports are left out, and so are reports without any such interface. A cancelled
    delivery makes a report unsafe only while a policy requires it.
    """
    enough = Integrity.values[: Integrity.values.index(integrity) + 1]
    wanted = policies.interfaces_of(reports)
    delivered: dict[UUID, dict[int, datetime | None]] = defaultdict(dict)
    for row in Delivery.objects.filter(report__in=reports).exclude(state=State.CANCELLED):
        safe = row.state == State.DELIVERED and row.integrity in enough
        delivered[row.report_id][row.interface_id] = row.delivered_at if safe else None
    found = {}
    for report in wanted.keys() | delivered.keys():
        times = [delivered[report].get(interface) for interface in wanted[report] | delivered[report].keys()]
        confirmed = [time for time in times if time is not None]
        if times and len(confirmed) == len(times):
            found[report] = max(confirmed)
    return found


def stored_at(report: Report) -> list[StoredAt]:
    """Return the receipts of a report in words, ordered by interface name."""
    rows = list(Delivery.objects.filter(report=report, state=State.DELIVERED).order_by("interface__name"))
    interfaces = Interface.objects.filter(pk__in=[row.interface_id for row in rows]).select_subclasses()
    by_id = {interface.pk: interface for interface in interfaces}
    return [
        StoredAt(
            destination=by_id[row.interface_id].name,
            place=by_id[row.interface_id].place,
            key=row.object_key,
            version_id=row.version_id,
            delivered_at=cast("datetime", row.delivered_at),
            integrity=INTEGRITY_WORDS[Integrity(row.integrity or Integrity.NONE)],
            retention=_retention(row),
        )
        for row in rows
    ]


INTEGRITY_WORDS = {
    Integrity.SHA256: "The store computed the SHA-256 of what it holds, and it is this report's.",
    Integrity.ETAG: "The store answered with the MD5 of what it holds, and it is this report's.",
    Integrity.MD5: "The store received the MD5 with the file and accepted the file, so it compared the two.",
    Integrity.NONE: "The store confirmed that it holds a file with this key, but nothing about its bytes.",
}


def _retention(row: Delivery) -> str:
    if row.retain_until is None:
        return "No retention was requested: anyone with permission to delete in this bucket can remove it."
    until = f"{row.retain_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"Locked until {until}: until then this version can be neither changed nor removed."
