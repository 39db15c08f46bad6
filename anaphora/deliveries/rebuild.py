"""Restores dashboards, reports and receipts from a bucket alone: from its manifests, keys and metadata.

docs/archive-format.md describes them. Reports listed in manifests need no request each; for all others, one HEAD
request is made per object. A rebuild only reads the bucket and does not change existing receipts. It can be interrupted
and run again: reports that have a receipt are not requested again.
"""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from django.conf import settings

from anaphora.deliveries import irregularities, queue, rebuild_manifests, rebuild_rows
from anaphora.deliveries.destinations import Destination, ListedObject
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.models import Delivery, Interface
from anaphora.deliveries.object_keys import Unclear, described, kind_of
from anaphora.deliveries.rebuild_rows import Found, Progress, fingerprint

_ENOUGH = 1000
"""After so many refused requests without a successful one, the rebuild stops."""


def rebuild(interface: Interface) -> Iterator[Progress]:
    """Restore the index of an interface's bucket, a few thousand keys per step; yield the same object after each.

    Requires permission to list and to read objects. Raises DeliveryError.
    """
    destination = interface.destination()
    progress = Progress(had_receipts=queue.has_receipts(interface.pk))
    with _existing_objects_frozen():
        for _ in rebuild_manifests.restore(interface, destination, progress):
            yield progress
            progress.unclear = []
        with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "rebuild") as pool:
            for listed in destination.list_objects(interface.key_prefix):
                _restore(interface, destination, listed, pool, progress)
                progress.seen += len(listed)
                yield progress
                progress.unclear = []
    if progress.refused:
        raise progress.refused[0]  # no request succeeded, so the problem does not concern single objects
    _name_missing(interface, progress)
    if progress.restored:
        irregularities.record_irregularity(irregularities.INDEX_REBUILT, interface, restored=progress.restored)
    yield progress


@contextmanager
def _existing_objects_frozen() -> Iterator[None]:
    """Exclude existing objects from garbage collection, which otherwise takes a quarter of the time of a rebuild."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _name_missing(interface: Interface, progress: Progress) -> None:
    """Add the reports that manifests list and the listing of the bucket did not contain."""
    if not progress.listed:
        return
    rows = Delivery.objects.filter(interface=interface, manifest__isnull=False).order_by("pk")
    for key, size, etag in rows.values_list("object_key", "size", "etag").iterator(1000):
        if fingerprint(key, size, etag) in progress.listed:
            progress.add_unclear(key, "A manifest lists it, and it is not in the bucket.")


def _restore(
    interface: Interface,
    destination: Destination,
    page: list[ListedObject],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> None:
    candidates = _candidates(interface, page, progress)
    known = rebuild_rows.known_receipts(interface, candidates)
    for key, receipt in known.items():
        in_manifest = fingerprint(key, receipt.size, receipt.etag)
        progress.known += in_manifest not in progress.listed  # otherwise it was counted with its manifest
        progress.listed.discard(in_manifest)
        if (problem := receipt.differs_from(candidates[key])) and receipt.manifest_id:
            progress.add_unclear(key, problem)
    missing = [key for key in candidates if key not in known]
    found = []
    for key, answer in zip(missing, pool.map(lambda key: _describe(interface, destination, key), missing), strict=True):
        if isinstance(answer, Found):
            found.append(answer)
        elif isinstance(answer, DeliveryError):
            progress.add_unclear(key, f"{answer.diagnosis.title}: {answer.detail}.")
            progress.refused.append(answer)
            continue
        else:
            progress.add_unclear(key, answer)
        progress.answered += 1
    if progress.answered:
        progress.refused.clear()
    elif len(progress.refused) >= _ENOUGH:
        raise progress.refused[0]
    rebuild_rows.write(interface, found, progress)


def _candidates(interface: Interface, page: list[ListedObject], progress: Progress) -> dict[str, ListedObject]:
    """Return the reports by key, except those that match a manifest; count objects of other kinds."""
    found = {}
    for each in page:
        listed = fingerprint(each.key, each.size, each.etag)
        if listed in progress.listed:
            progress.listed.remove(listed)
            continue
        kind = kind_of(interface.key_prefix, each.key)
        if kind == "report":
            found[each.key] = each
        elif kind:
            progress.others += 1
        else:
            progress.add_unclear(each.key, "Not the key of a report.")
    return found


def _describe(interface: Interface, destination: Destination, key: str) -> Found | DeliveryError | str:
    """Return an object as the store describes it, or why it cannot be used. Raises DeliveryError.

    Errors that may concern only this object are returned, not raised.
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
        return "It was removed during the rebuild."
    try:
        facts = described(prefix=interface.key_prefix, key=key, metadata=stored.metadata)
    except Unclear as error:
        return str(error)
    if stored.sha256 and stored.sha256 != facts.sha256:
        return f"The store says that its SHA-256 is {stored.sha256}, its metadata says {facts.sha256}."
    if not stored.size:
        return "It is empty."
    if not 0 < len(stored.content_type) <= 127:
        return "It has no content type."
    return Found(
        key=key,
        facts=facts,
        content_type=stored.content_type,
        size=stored.size,
        version_id=stored.version_id,
        etag=stored.etag,
        integrity=stored.integrity(sha256=facts.sha256, md5=facts.md5),
        retain_until=stored.retain_until,
        delivered_at=stored.modified_at,
    )
