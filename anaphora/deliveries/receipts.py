"""What receipts say: since when a report is safe, and where it is stored, in words for an auditor."""

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
    """One receipt of a report, in words."""

    destination: str
    place: str
    """Bucket and endpoint, or what takes their place."""
    key: str
    version_id: str
    """Empty for none."""
    delivered_at: datetime
    integrity: str
    """A sentence: how far the store confirmed that it holds the bytes that came in."""
    retention: str
    """A sentence: until when the store protects it from being removed."""


def safe_since(reports: Collection[UUID], integrity: str) -> dict[UUID, datetime]:
    """Return since when each report is delivered to every interface that it has a delivery to or that a policy wants.

    Reports that are not, with at least this integrity, are left out, and so are those that no interface wants. A
    cancelled delivery counts only while a policy wants it: then the report isn't safe.
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
    """Return the receipts of a report in words, by interface name."""
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
        return "No retention was requested: whoever may delete in this bucket can remove it."
    until = f"{row.retain_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"Locked until {until}: until then this version can be neither changed nor removed."
