"""Brings back dashboards, reports and receipts from what lies in a bucket: manifests, keys and metadata, nothing else.

docs/archive-format.md is what it goes by. What manifests list needs no request of its own; for the rest, each object is
asked for. It only reads the bucket, changes no receipt that is there, and can be broken off and run again: what is
known already is not asked for once more.
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
"""Objects that are refused, and none that isn't, after which the rest is not asked for."""


def rebuild(interface: Interface) -> Iterator[Progress]:
    """Restore the index of an interface's bucket, some thousand keys at a step; yield after each the same object.

    Needs the permissions to list and to read. Raises DeliveryError.
    """
    destination = interface.destination()
    progress = Progress(had_receipts=queue.has_receipts(interface.pk))
    with _garbage_sought_in_new_objects_alone():
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
        raise progress.refused[0]  # not one of them could be asked for: it is no matter of single objects
    _name_missing(interface, progress)
    if progress.restored:
        irregularities.record_irregularity(irregularities.INDEX_REBUILT, interface, restored=progress.restored)
    yield progress


@contextmanager
def _garbage_sought_in_new_objects_alone() -> Iterator[None]:
    """Keep Python's garbage collector from what was loaded before: that took a quarter of the time of a rebuild."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _name_missing(interface: Interface, progress: Progress) -> None:
    """Add what manifests list and the listing of the bucket did not have."""
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
        progress.known += in_manifest not in progress.listed  # or it was counted when its manifest was read
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
    """Return the reports, by their keys, but those of which a manifest says the same; count what is no report."""
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
            progress.add_unclear(each.key, "No key of a report.")
    return found


def _describe(interface: Interface, destination: Destination, key: str) -> Found | DeliveryError | str:
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
    return Found(
        key=key,
        told=told,
        content_type=stored.content_type,
        size=stored.size,
        version_id=stored.version_id,
        etag=stored.etag,
        integrity=stored.integrity(sha256=told.sha256, md5=told.md5),
        retain_until=stored.retain_until,
        delivered_at=stored.modified_at,
    )
