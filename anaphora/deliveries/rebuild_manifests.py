"""The part of a rebuild that reads manifests: each line has all that an index needs, so no object is asked for.

A manifest counts if its signature fits a key that this installation knows, or the key of that fingerprint in the
bucket. The latter proves nothing to an auditor; the rebuilt index is as good as the bucket, as it is without manifests.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, BinaryIO

from django.db import transaction

from anaphora.deliveries import proof, rebuild_rows, signing, verifier
from anaphora.deliveries.destinations import Destination, Integrity, StoredObject
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import Delivery, Interface
from anaphora.deliveries.object_keys import (
    Unclear,
    described,
    kind_of,
    manifests_prefix,
    object_metadata,
    public_key_key,
)
from anaphora.deliveries.rebuild_rows import Found, Progress

LARGEST_TIME_STAMP = 64 * 1024
"""Bytes. A token with its certificates has about 6 KB."""

_STEP = 1000
"""Lines at a step."""


@dataclass
class _Stored:
    """A manifest in the store, whose signature fits."""

    header: dict[str, Any]
    line: str
    key: str
    size: int
    sha256: str
    signature: bytes
    time_stamp: bytes
    """Empty if there is none in the store."""


def restore(interface: Interface, destination: Destination, progress: Progress) -> Iterator[None]:
    """Restore what manifests list, a thousand reports at a step. Raises DeliveryError."""
    keys: list[str] = []
    time_stamps: set[str] = set()
    for page in destination.list_objects(manifests_prefix(interface.key_prefix)):
        keys += [each.key for each in page if kind_of(interface.key_prefix, each.key) == "manifest"]
        time_stamps |= {each.key for each in page if each.key.endswith(".jsonl.tsr")}
    public_keys = _PublicKeys(interface, destination, progress)
    for key in _in_sequence(destination, keys, progress):
        try:
            with proof.fetched(destination, key) as file:
                stored = _checked(destination, key, file, public_keys, stamped=f"{key}.tsr" in time_stamps)
                manifest = _manifest(interface, stored)
                file.seek(0)
                file.readline()
                for found in _found(interface, manifest, file, progress):
                    _write(interface, manifest, found, progress)
                    yield
        except (_Refused, OSError) as error:
            progress.add_unclear(key, f"{error}.")
        except DeliveryError as error:
            if error.diagnosis.scope is not FailureScope.REPORT:
                raise
            progress.add_unclear(key, f"{error.diagnosis.title}.")
    yield


class _Refused(Exception):  # noqa: N818  # of a manifest, it is a state
    """A manifest does not count; the message says why."""


class _PublicKeys:
    """The public keys to go by: this installation's, else those in the bucket, of which a remark tells."""

    def __init__(self, interface: Interface, destination: Destination, progress: Progress) -> None:
        self._prefix, self._destination, self._progress = interface.key_prefix, destination, progress
        self._known = signing.known_public_keys()

    def get(self, fingerprint: str) -> str:
        if fingerprint in self._known:
            return self._known[fingerprint]
        key = public_key_key(prefix=self._prefix, fingerprint=fingerprint)
        try:
            with proof.fetched(self._destination, key) as file:
                pem = file.read(4096).decode("ascii")
            if verifier.module().fingerprint(pem) != fingerprint:
                raise _Refused(f"{key} holds another key")
        except (OSError, ValueError, verifier.module().Malformed) as error:
            raise _Refused(f"The public key {fingerprint} is not at hand") from error
        self._progress.remarks.append(
            f"Manifests are signed by the key {fingerprint}, which this installation does not have: it was taken from "
            "the bucket. Verify the archive with a public key that you have from elsewhere."
        )
        self._known[fingerprint] = pem
        return pem


def _in_sequence(destination: Destination, keys: list[str], progress: Progress) -> list[str]:
    """Return the keys in the order of the chain. Names are in that order, but where a clock was set back."""
    if not any(key.count(".") > 2 for key in (each.rpartition("/")[2] for each in keys)):
        return sorted(keys)
    order = {}
    for key in keys:
        try:
            with proof.fetched(destination, key) as file:
                order[key] = verifier.module().Header.read(key, file.readline(65_537)).sequence
        except (OSError, verifier.module().Malformed) as error:
            progress.add_unclear(key, f"{error}.")
    return sorted(order, key=lambda key: order[key])


def _checked(destination: Destination, key: str, file: BinaryIO, public_keys: _PublicKeys, *, stamped: bool) -> _Stored:
    checks = verifier.module()
    line = file.readline(65_537)
    try:
        header = checks.Header.read(key, line)
    except checks.Malformed as error:
        raise _Refused(str(error)) from error
    with proof.fetched(destination, f"{key}.sig") as beside:
        signature = beside.read(65)
    if not proof.Tools().signature(str(file.name), signature, public_keys.get(header.public_key)):
        raise _Refused("Its signature does not fit: what it lists was not taken from it")
    time_stamp = b""
    if stamped:
        with proof.fetched(destination, f"{key}.tsr") as beside:
            time_stamp = beside.read(LARGEST_TIME_STAMP)
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    sha256 = proof.digest_of(file)
    return _Stored(json.loads(line), line.decode().rstrip("\n"), key, size, sha256, signature, time_stamp)


@transaction.atomic
def _manifest(interface: Interface, stored: _Stored) -> Manifest:
    """Return the row of a stored manifest. One that was sealed here and never stored gives way to it."""
    header = stored.header
    there = Manifest.objects.filter(interface=interface, sequence=header["sequence"]).first()
    if there and there.sha256 == stored.sha256:
        return there
    if there and there.written_at:
        raise _Refused(f"The index has another manifest of sequence {there.sequence}")
    if there:
        Delivery.objects.filter(manifest=there).update(manifest=None)
        Irregularity.objects.filter(manifest=there).update(manifest=None)
        there.delete()
    sealed_at = datetime.fromisoformat(header["sealed_at"])
    return Manifest.objects.create(
        interface_id=interface.pk,
        sequence=header["sequence"],
        day=date.fromisoformat(header["day"]),
        key=stored.key,
        header=stored.line,
        public_key=header["public_key"],
        sealed_at=sealed_at,
        size=stored.size,
        sha256=stored.sha256,
        signature=stored.signature,
        time_stamp=stored.time_stamp,
        written_at=sealed_at.astimezone(UTC),
    )


def _found(interface: Interface, manifest: Manifest, file: BinaryIO, progress: Progress) -> Iterator[list[Found]]:
    """Yield what a manifest lists, some at a time; note the irregularities, and the titles for its bytes."""
    found: list[Found] = []
    titles, events = dict(manifest.titles), manifest.irregularities.exists()
    while text := file.readline(65_537):
        line = json.loads(text)
        if line.get("type") == "irregularity":
            if not events:
                _note(interface, manifest, line)
            continue
        try:
            found.append(_report(interface, manifest, line))
        except (Unclear, KeyError, TypeError, ValueError) as error:
            progress.add_unclear(str(line.get("key", manifest.key)), f"A manifest lists it: {error}")
        if line.get("title"):
            titles[line["dashboard"]] = line["title"]
        if len(found) == _STEP:
            yield found
            found = []
    if titles != manifest.titles:
        manifest.titles = titles
        manifest.save(update_fields=["titles"])
    if found:
        yield found


def _note(interface: Interface, manifest: Manifest, line: dict[str, Any]) -> None:
    facts = {name: value for name, value in line.items() if name not in {"type", "kind", "at"}}
    Irregularity.objects.create(
        interface_id=interface.pk,
        manifest=manifest,
        kind=line["kind"],
        at=datetime.fromisoformat(line["at"]),
        facts=facts,
    )


def _report(interface: Interface, manifest: Manifest, line: dict[str, Any]) -> Found:
    """Return a line as what an object's own metadata would say. Raises Unclear, KeyError, TypeError, ValueError."""
    instants = {name: datetime.fromisoformat(line[name]) for name in ("rendered_at", "ingested_at", "delivered_at")}
    metadata = object_metadata(
        report_id=line["report_id"],
        dashboard=line["dashboard"],
        title=line["title"],
        rendered_at=instants["rendered_at"],
        ingested_at=instants["ingested_at"],
        sha256=line["sha256"],
        md5=line["md5"],
        filename=line["filename"],
    )
    stored = StoredObject(
        size=line["size"],
        etag=line["etag"],
        sha256="",
        modified_at=instants["delivered_at"],
        version_id=line["version_id"],
        content_type=line["content_type"],
        retain_until=datetime.fromisoformat(line["retain_until"]) if line["retain_until"] else None,
    )
    told = described(prefix=interface.key_prefix, key=line["key"], metadata=metadata)
    return Found(line["key"], stored, told, manifest, Integrity(line["integrity"]).value)


def _write(interface: Interface, manifest: Manifest, found: list[Found], progress: Progress) -> None:
    progress.missing |= {hash(each.key) for each in found}
    known = rebuild_rows.known_by_id(interface, [each.told.report_id for each in found])
    if progress.had_receipts:  # of which a report may have come in anew under another id
        known |= rebuild_rows.known_receipts(interface, [each.key for each in found if each.key not in known])
    unlisted = []
    for each in found:
        receipt = known.get(each.key)
        if receipt is None:
            continue
        if (receipt.sha256, receipt.size) != (each.told.sha256, each.stored.size):
            progress.add_unclear(each.key, f"The manifest of {manifest.day} says otherwise than the receipt here.")
        elif receipt.manifest_id is None:
            unlisted.append(receipt.pk)
    Delivery.objects.filter(pk__in=unlisted, manifest=None).update(manifest=manifest)
    new = [each for each in found if each.key not in known]
    rebuild_rows.write(interface, new, progress)
    progress.restored_keys |= {hash(each.key) for each in new}
