"""Brings back dashboards, reports and receipts from what lies in a bucket: manifests, keys and metadata, nothing else.

docs/archive-format.md is what it goes by. What manifests list needs no request of its own; for the rest, each object is
asked for. It only reads the bucket, changes no receipt that is there, and can be broken off and run again: what is
known already is not asked for once more.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings

from anaphora.deliveries import irregularities, queue, rebuild_manifests, rebuild_rows
from anaphora.deliveries.destinations import Destination, ListedObject
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.models import Delivery, Interface
from anaphora.deliveries.object_keys import Unclear, described, kind_of
from anaphora.deliveries.rebuild_rows import Found, Progress

_ENOUGH = 1000
"""Objects that are refused, and none that isn't, after which the rest is not asked for."""


def rebuild(interface: Interface) -> Iterator[Progress]:
    """Restore the index of an interface's bucket, a thousand keys at a step; yield after each the same object.

    Needs the permissions to list and to read. Raises DeliveryError.
    """
    destination = interface.destination()
    progress = Progress(had_receipts=queue.has_receipts(interface.pk))
    for _ in rebuild_manifests.restore(interface, destination, progress):
        yield progress
        progress.unclear = []
    with ThreadPoolExecutor(settings.DELIVERY_CONCURRENCY, "rebuild") as pool:
        for listed in destination.list_objects(interface.key_prefix):
            _restore(interface, destination, {each.key: each for each in listed}, pool, progress)
            progress.seen += len(listed)
            yield progress
            progress.unclear = []
    if progress.refused:
        raise progress.refused[0]  # not one of them could be asked for: it is no matter of single objects
    _name_missing(interface, progress)
    if progress.restored:
        irregularities.record_irregularity(irregularities.INDEX_REBUILT, interface, restored=progress.restored)
    yield progress


def _name_missing(interface: Interface, progress: Progress) -> None:
    """Add what manifests list and the listing of the bucket did not have."""
    if not progress.missing:
        return
    rows = Delivery.objects.filter(interface=interface, manifest__isnull=False).order_by("pk")
    for key in rows.values_list("object_key", flat=True).iterator(1000):
        if hash(key) in progress.missing:
            progress.add_unclear(key, "A manifest lists it, and it is not in the bucket.")


def _restore(
    interface: Interface,
    destination: Destination,
    keys: dict[str, ListedObject],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> None:
    candidates = _candidates(interface, keys, progress)
    known = rebuild_rows.known_receipts(interface, candidates)
    for key, receipt in known.items():
        progress.known += hash(key) not in progress.restored_keys
        progress.missing.discard(hash(key))
        if (problem := receipt.differs_from(keys[key])) and receipt.manifest_id:
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


def _candidates(interface: Interface, keys: Iterable[str], progress: Progress) -> list[str]:
    """Return the keys of reports; count the others."""
    found = []
    for key in keys:
        kind = kind_of(interface.key_prefix, key)
        if kind == "report":
            found.append(key)
        elif kind:
            progress.others += 1
        else:
            progress.add_unclear(key, "No key of a report.")
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
    return Found(key, stored, told)
