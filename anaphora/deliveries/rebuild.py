"""Brings back dashboards, reports and receipts from what lies in a bucket: its keys and metadata, nothing else.

docs/archive-format.md is what it goes by. It only reads the bucket, changes no row that is there, and can be broken off
and run again: what is known already is not asked for once more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, OperationalError, transaction
from django.utils import timezone

from anaphora.deliveries.destinations import Destination, StoredObject
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.object_keys import Described, Unclear, described, kind_of, parts_of
from anaphora.foreign_text import words
from anaphora.reports.models import Dashboard, Preview, Report

_ENOUGH = 1000
"""Objects that are refused, and none that isn't, after which the rest is not asked for."""


@dataclass
class Progress:
    """What has been done so far."""

    seen: int = 0
    """Keys, of whatever kind."""
    restored: int = 0
    known: int = 0
    """Reports of which the receipt was there."""
    others: int = 0
    """Catalogues and files of connection tests."""
    unclear: list[tuple[str, str]] = field(default_factory=list)
    """Of the last step: keys that can't be made out, each with the reason."""
    catalogued_until: date | None = None
    answered: int = 0
    """Objects of which the store said something."""
    refused: list[DeliveryError] = field(default_factory=list)
    """What it answered for others, while it has said nothing of any."""


@dataclass(frozen=True)
class _Found:
    key: str
    stored: StoredObject
    told: Described


def rebuild(interface: Interface) -> Iterator[Progress]:
    """Restore the index of an interface's bucket, a thousand keys at a step; yield after each the same object.

    Needs the permissions to list and to read. Raises DeliveryError.
    """
    destination = interface.destination()
    progress = Progress()
    with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "rebuild") as pool:
        for keys in destination.list_keys(interface.key_prefix):
            progress.unclear = []
            _restore(interface, destination, keys, pool, progress)
            progress.seen += len(keys)
            yield progress
    if progress.refused:
        raise progress.refused[0]  # not one of them could be asked for: it is no matter of single objects
    if progress.catalogued_until and not interface.catalogued_until:
        Interface.objects.filter(pk=interface.pk).update(catalogued_until=progress.catalogued_until)


def _restore(
    interface: Interface, destination: Destination, keys: list[str], pool: ThreadPoolExecutor, progress: Progress
) -> None:
    candidates = []
    for key in keys:
        kind = kind_of(interface.key_prefix, key)
        if kind == "report":
            candidates.append(key)
        elif kind:
            progress.others += 1
            if kind == "catalogue":
                _note_catalogue(key, progress)
        else:
            progress.unclear.append((key, "No key of a report."))
    known = _known(interface, candidates)
    progress.known += len(known)
    missing = [key for key in candidates if key not in known]
    found = []
    for key, answer in zip(missing, pool.map(lambda key: _describe(interface, destination, key), missing), strict=True):
        if isinstance(answer, _Found):
            found.append(answer)
        elif isinstance(answer, DeliveryError):
            progress.unclear.append((key, f"{answer.diagnosis.title}: {answer.detail}."))
            progress.refused.append(answer)
            continue
        else:
            progress.unclear.append((key, answer))
        progress.answered += 1
    if progress.answered:
        progress.refused.clear()
    elif len(progress.refused) >= _ENOUGH:
        raise progress.refused[0]
    _write_each(interface, found, progress)


def _write_each(interface: Interface, found: list[_Found], progress: Progress) -> None:
    """Write all together; should one of them be refused, each by itself, so that it costs no other."""
    try:
        _write(interface, found, progress)
    except OperationalError:
        raise  # the database's own trouble
    except (DatabaseError, ValueError, OverflowError) as error:
        if len(found) == 1:
            progress.unclear.append((found[0].key, f"It cannot be kept: {words(str(error), 200)}."))
            return
        for each in found:
            _write_each(interface, [each], progress)


def _note_catalogue(key: str, progress: Progress) -> None:
    try:
        day = date.fromisoformat(key.removesuffix(".jsonl")[-10:])
    except ValueError:
        return
    if day <= timezone.now().date():  # a clock that went wrong has written others
        progress.catalogued_until = max(day, progress.catalogued_until or day)


def _known(interface: Interface, keys: Iterable[str]) -> set[str]:
    """Return those of the keys for which there are receipts, by the reports' index."""
    spans = defaultdict(list)
    for key in keys:
        try:
            dashboard, instant = parts_of(interface.key_prefix, key)
        except (ValueError, OverflowError):
            continue  # an instant outside the calendar; its metadata will say what it is
        spans[dashboard].append(instant)
    known: set[str] = set()
    for dashboard, instants in spans.items():
        rows = Delivery.objects.filter(
            interface=interface,
            state=State.DELIVERED,
            report__dashboard__slug=dashboard,
            report__rendered_at__range=(min(instants), max(instants)),
        )
        known.update(rows.order_by().values_list("object_key", flat=True))
    return known.intersection(keys)


def _describe(interface: Interface, destination: Destination, key: str) -> _Found | DeliveryError | str:
    """Return what the store says of an object, or why that can't be made out. Raises DeliveryError.

    Returned is what may concern this one object alone.
    """
    try:
        stored = destination.head(key)
    except DeliveryError as error:
        if error.diagnosis.scope is FailureScope.REPORT:
            return f"{error.diagnosis.title}."
        if error.diagnosis.scope is FailureScope.EITHER or error.diagnosis.of_one_object:
            return error
        raise
    if stored is None:
        return "It was removed meanwhile."
    try:
        told = described(prefix=interface.key_prefix, key=key, metadata=stored.metadata)
    except Unclear as error:
        return str(error)
    if stored.sha256 and stored.sha256 != told.sha256:
        return f"The store says that its SHA-256 is {stored.sha256}, its metadata say {told.sha256}."
    if not stored.size:
        return "It is empty."
    if not 0 < len(stored.content_type) <= 127:
        return "It has no content type."
    return _Found(key, stored, told)


def _write(interface: Interface, found: list[_Found], progress: Progress) -> None:
    with transaction.atomic():
        dashboards = {}
        for each in found:
            slug = each.told.dashboard
            if slug not in dashboards:
                dashboards[slug], _ = Dashboard.objects.get_or_create(slug=slug, defaults={"title": each.told.title})
        Report.objects.bulk_create(
            [_report(each, dashboards[each.told.dashboard]) for each in found], ignore_conflicts=True
        )
        # The same report may have come in anew under another id: it gets the receipt.
        rows = Report.objects.filter(
            dashboard__in=dashboards.values(), sha256__in={each.told.sha256 for each in found}
        ).values_list("dashboard__slug", "rendered_at", "sha256", "pk")
        ids = {(slug, rendered_at, sha256): pk for slug, rendered_at, sha256, pk in rows}
        receipts = []
        for each in found:
            pk = ids.get((each.told.dashboard, each.told.rendered_at, each.told.sha256))
            if pk is None:
                progress.unclear.append((each.key, f"Another report has its id, {each.told.report_id}."))
            else:
                receipts.append(_receipt(interface, each, pk))
        Delivery.objects.bulk_create(receipts, ignore_conflicts=True)
    progress.restored += len(receipts)


def _report(each: _Found, dashboard: Dashboard) -> Report:
    told = each.told
    report = Report(
        pk=told.report_id,
        dashboard=dashboard,
        rendered_at=told.rendered_at,
        filename=told.filename,
        content_type=each.stored.content_type,
        size=each.stored.size,
        sha256=told.sha256,
        md5=told.md5,
        ingested_at=told.ingested_at,
    )
    if report.preview_path.exists():
        report.preview = Preview.MADE
    try:
        if report.local_path.stat().st_size == report.size:
            report.file.name = report.local_name
    except OSError:
        pass
    return report


def _receipt(interface: Interface, each: _Found, report_id: UUID) -> Delivery:
    stored, told = each.stored, each.told
    return Delivery(
        report_id=report_id,
        interface=interface,
        state=State.DELIVERED,
        object_key=each.key,
        version_id=stored.version_id,
        etag=stored.etag,
        sha256=told.sha256,
        size=stored.size,
        integrity=stored.integrity(sha256=told.sha256, md5=told.md5),
        retain_until=stored.retain_until,
        delivered_at=stored.modified_at,
    )
