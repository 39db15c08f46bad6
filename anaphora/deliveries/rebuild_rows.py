"""Writes the dashboards, reports and receipts that a rebuild finds in the store or in manifests.

Existing rows are not changed.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import QuerySet

from anaphora.bulk_rows import NewRows, batched
from anaphora.deliveries.destinations import ListedObject
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.object_keys import Described, parts_of
from anaphora.foreign_text import clean_line
from anaphora.reports.content_types import extension
from anaphora.reports.models import Dashboard, Preview, Report, local_location, local_name, preview_path

AT_ONCE = 1000
"""Rows that one query selects by id."""


class Found(NamedTuple):
    """One stored report with its receipt, as the store or a manifest describes it."""

    key: str
    facts: Described
    content_type: str
    size: int
    version_id: str
    etag: str
    integrity: str
    retain_until: datetime | None
    delivered_at: datetime
    manifest: int | None = None
    """The primary key of the manifest that lists the report; None if the store was asked."""


def fingerprint(key: str, size: int | None, etag: str) -> int:
    """Return a small value for comparing an object in a listing of the bucket with a line of a manifest."""
    return hash((key, size, etag))


@dataclass
class Progress:
    """The progress of a rebuild."""

    seen: int = 0
    """Keys of all kinds."""
    restored: int = 0
    had_receipts: bool = True
    """Whether the interface had receipts when the rebuild began."""
    all_new: bool = True
    """Whether no row of a manifest's reports has been refused so far."""
    dashboards: dict[str, int] = field(default_factory=dict)
    """Primary keys of known dashboards, by slug."""
    listed: set[int] = field(default_factory=set)
    """Fingerprints of reports that manifests list and the listing of the bucket has not contained yet."""
    known: int = 0
    """Reports that had a receipt."""
    others: int = 0
    """Manifests, their signatures and time stamps, catalogues of earlier versions, test files."""
    remarks: list[str] = field(default_factory=list)
    """Remarks that do not concern a single key."""
    unclear_number: int = 0
    unclear: list[tuple[str, str]] = field(default_factory=list)
    """Keys of the last step that cannot be used, each with the reason."""
    answered: int = 0
    """Number of objects that the store described."""
    refused: list[DeliveryError] = field(default_factory=list)
    """Errors of requests, as long as none has succeeded."""

    def add_unclear(self, key: str, why: str) -> None:
        """Add a key that cannot be used."""
        self.unclear.append((key, why))
        self.unclear_number += 1


@dataclass(frozen=True)
class Known:
    """The receipt of a report in the index."""

    pk: int
    sha256: str
    size: int
    version_id: str
    etag: str
    manifest_id: int | None

    def differs_from(self, listed: ListedObject) -> str:
        """Return how a listing differs from the receipt, as a sentence; empty if it does not."""
        if listed.size != self.size:
            return f"The store lists {listed.size:,} bytes, the manifest says {self.size:,}."
        if listed.etag and self.etag and listed.etag != self.etag:
            return f"The store lists the ETag {listed.etag}, the manifest says {self.etag}."
        return ""


def known_by_id(interface: Interface, reports: list[UUID]) -> dict[str, Known]:
    """Return the receipts of the reports with these ids, by object key."""
    known: dict[str, Known] = {}
    for ids in batched(reports, AT_ONCE):
        rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED, report__in=ids)
        known |= _by_key(rows.order_by())
    return known


def _by_key(rows: QuerySet[Delivery]) -> dict[str, Known]:
    fields = rows.values_list("object_key", "pk", "sha256", "size", "version_id", "etag", "manifest_id")
    return {each[0]: Known(*cast("Any", each[1:])) for each in fields}


def known_receipts(interface: Interface, keys: Iterable[str]) -> dict[str, Known]:
    """Return the receipts with these object keys, using the index of reports."""
    spans = defaultdict(list)
    for key in keys:
        try:
            dashboard, instant = parts_of(interface.key_prefix, key)
        except (ValueError, OverflowError):
            continue  # an instant outside the calendar; the metadata is checked later
        spans[dashboard].append(instant)
    wanted = set(keys)
    known: dict[str, Known] = {}
    for dashboard, instants in spans.items():
        # Two queries by index, because a join is planned badly while both tables grow.
        reports = Report.objects.filter(
            dashboard__slug=dashboard, rendered_at__range=(min(instants), max(instants))
        ).order_by()
        for ids in batched(list(reports.values_list("pk", flat=True)), AT_ONCE):
            rows = Delivery.objects.filter(interface=interface, state=State.DELIVERED, report__in=ids).order_by()
            known |= {key: receipt for key, receipt in _by_key(rows).items() if key in wanted}
    return known


class Prepared(NamedTuple):
    """Rows that are ready to insert."""

    reports: NewRows
    receipts: NewRows | None


def prepare(
    interface: Interface, found: list[Found], dashboards: dict[str, int], *, all_new: bool = False
) -> Prepared | None:
    """Prepare the rows of new reports without using the database. Return None if a dashboard is not known yet.

    `dashboards` are primary keys by slug. With `all_new`, writing the rows may fail if one of them exists.
    """
    local = _LocalFiles()
    try:
        reports = [_report_row(each, dashboards[each.facts.dashboard], local) for each in found]
    except KeyError:
        return None
    receipts = [_receipt(each, each.facts.report_id) for each in found]
    return Prepared(NewRows(Report, reports, all_new=all_new), _receipts(interface, receipts, all_new=all_new))


def write(
    interface: Interface, found: list[Found], progress: Progress, prepared: Prepared | None = None
) -> list[Found]:
    """Write all rows with one transaction. If a row is refused, halve them, so that it does not affect the others.

    Return those whose report already has a delivery to the interface, which is not changed.
    """
    if not found:
        return []
    try:
        return _write(interface, found, progress, prepared)
    except OperationalError:
        raise  # concerns the database, not a row
    except (DatabaseError, ValueError, OverflowError) as error:
        progress.dashboards.clear()
        if prepared:  # with dashboards that may be gone, or as new although some exist
            progress.all_new = False
            return write(interface, found, progress)
        if len(found) == 1:
            progress.add_unclear(found[0].key, f"It cannot be stored in the database: {clean_line(str(error), 200)}.")
            return []
        half = len(found) // 2
        return write(interface, found[:half], progress) + write(interface, found[half:], progress)


def _write(interface: Interface, found: list[Found], progress: Progress, prepared: Prepared | None) -> list[Found]:
    dashboards, unclear = progress.dashboards, list[Found]()
    with transaction.atomic():
        if prepared is None:
            dashboards = _dashboards(found, progress.dashboards)
            prepared = prepare(interface, found, dashboards)
            assert prepared is not None
        receipts, rows = {each.facts.report_id: each for each in found}, prepared.receipts
        if len(prepared.reports.insert()) < len(found):
            ids = _report_ids(found, dashboards)
            pairs = [
                (ids.get((each.facts.dashboard, each.facts.rendered_at, each.facts.sha256)), each) for each in found
            ]
            receipts = {pk: each for pk, each in pairs if pk}
            unclear = [each for pk, each in pairs if pk is None]
            rows = _receipts(interface, [_receipt(each, pk) for pk, each in receipts.items()])
        written = rows.insert() if rows else set()
    progress.dashboards |= dashboards
    for each in unclear:
        progress.add_unclear(each.key, f"Another report has its ID, {each.facts.report_id}.")
    progress.restored += len(written)
    return [each for pk, each in receipts.items() if pk not in written] if len(written) < len(receipts) else []


def _dashboards(found: list[Found], known: dict[str, int]) -> dict[str, int]:
    """Return the primary keys of dashboards by slug. Create missing dashboards."""
    titles = {each.facts.dashboard: each.facts.title for each in found if each.facts.dashboard not in known}
    rows = dict(Dashboard.objects.filter(slug__in=titles).values_list("slug", "pk"))
    for slug in sorted(titles.keys() - rows.keys()):
        rows[slug] = Dashboard.objects.get_or_create(slug=slug, defaults={"title": titles[slug]})[0].pk
    return known | rows


def _report_ids(found: list[Found], dashboards: dict[str, int]) -> dict[tuple[str, datetime, str], UUID]:
    """Return the ids of existing reports by dashboard, instant and SHA-256.

    If the same report was ingested again with another id, that one gets the receipt.
    """
    slugs = {pk: slug for slug, pk in dashboards.items()}
    fields = ("dashboard_id", "rendered_at", "sha256", "pk")
    rows = list(Report.objects.filter(pk__in=[each.facts.report_id for each in found]).order_by().values_list(*fields))
    ids = {(slugs.get(dashboard, ""), at, sha256): pk for dashboard, at, sha256, pk in rows}
    for each in found:
        facts = each.facts
        key = facts.dashboard, facts.rendered_at, facts.sha256
        if key in ids:
            continue
        others = Report.objects.filter(
            dashboard=dashboards[facts.dashboard], rendered_at=facts.rendered_at, sha256=facts.sha256
        )
        for pk in others.values_list("pk", flat=True):
            ids[key] = pk
    return ids


class _LocalFiles:
    """Looks up local copies and previews. Checks their folders first, most of which are missing on a new machine.

    Use an instance for one step only, because it caches which folders exist.
    """

    def __init__(self) -> None:
        self._copies, self._previews = local_location(), str(Path(settings.DATA_DIR, "previews"))
        self._folders: dict[str, bool] = {}
        self._months: dict[tuple[str, int, int], bool] = {}

    def copy_of(self, each: Found) -> str:
        """Return the name of a report's local copy, or "" if there is none of its size."""
        facts = each.facts
        at = facts.rendered_at
        month = facts.dashboard, at.year, at.month
        if (there := self._months.get(month)) is None:
            there = self._months[month] = self._has(f"{self._copies}/{facts.dashboard}/{at.year:04}/{at.month:02}")
        if not there:
            return ""
        name = local_name(facts.dashboard, at, facts.report_id, extension(each.content_type, facts.filename))
        return name if _size_of(f"{self._copies}/{name}") == each.size else ""

    def preview_of(self, report_id: UUID) -> Preview:
        """Return whether a report has a preview."""
        there = (
            self._has(self._previews)
            and self._has(f"{self._previews}/{str(report_id)[:2]}")
            and preview_path(report_id).exists()
        )
        return Preview.MADE if there else Preview.WAITING

    def _has(self, folder: str) -> bool:
        if folder not in self._folders:
            self._folders[folder] = os.path.isdir(folder)  # noqa: PTH112
        return self._folders[folder]


def _report_row(each: Found, dashboard: int, local: _LocalFiles) -> dict[str, Any]:
    """Return the row of a report, with its local copy and preview if they exist."""
    facts = each.facts
    return {
        "id": facts.report_id,
        "dashboard": dashboard,
        "rendered_at": facts.rendered_at,
        "filename": facts.filename,
        "content_type": each.content_type,
        "size": each.size,
        "sha256": facts.sha256,
        "md5": facts.md5,
        "ingested_at": facts.ingested_at,
        "file": local.copy_of(each),
        "preview": local.preview_of(facts.report_id),
    }


def _size_of(path: str) -> int:
    """Return the size of a file, -1 if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return -1


def _receipts(interface: Interface, rows: list[dict[str, Any]], *, all_new: bool = False) -> NewRows | None:
    if not rows:
        return None
    return NewRows(Delivery, rows, returning="report", all_new=all_new, interface=interface.pk, state=State.DELIVERED)


def _receipt(each: Found, report_id: UUID) -> dict[str, Any]:
    return {
        "report": report_id,
        "object_key": each.key,
        "version_id": each.version_id,
        "etag": each.etag,
        "sha256": each.facts.sha256,
        "size": each.size,
        "integrity": each.integrity,
        "retain_until": each.retain_until,
        "delivered_at": each.delivered_at,
        "manifest": each.manifest,
    }
