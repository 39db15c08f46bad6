"""The part of a rebuild that reads manifests, whose lines contain all that the index needs. Objects need no requests.

A manifest is used if its signature is valid for a public key of this installation or, if it does not have that key, for
the key with this fingerprint in the bucket. Such a key proves nothing to an auditor, but neither does an index that is
rebuilt without manifests: it is as trustworthy as the bucket.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, BinaryIO

from django.db import transaction

from anaphora.bulk_rows import batched
from anaphora.deliveries import manifest_lines, proof, rebuild_rows, signing, verifier
from anaphora.deliveries.destinations import Destination
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.manifest_lines import Lines
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import Delivery, Interface
from anaphora.deliveries.object_keys import kind_of, manifests_prefix, public_key_key
from anaphora.deliveries.rebuild_rows import AT_ONCE, Found, Known, Prepared, Progress, fingerprint

LARGEST_TIME_STAMP = 64 * 1024
"""Bytes. A token with its certificates has about 6 KB."""


@dataclass
class _Stored:
    """A manifest in the store with a valid signature."""

    header: dict[str, Any]
    line: str
    key: str
    size: int
    sha256: str
    signature: bytes
    time_stamp: bytes
    """Empty if the store has none."""


def restore(interface: Interface, destination: Destination, progress: Progress) -> Iterator[None]:
    """Restore the reports that manifests list, a few thousand per step. Raises DeliveryError."""
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
                lines = manifest_lines.read(file, manifest=manifest.pk, name=key, prefix=interface.key_prefix)
                noted = manifest.irregularities.count()
                for part, prepared in _read_ahead(interface, lines, progress):
                    _write(interface, manifest, part, prepared, progress)
                    noted = _note(interface, manifest, part, noted)
                    yield
        except (_Refused, OSError) as error:
            progress.add_unclear(key, f"{error}.")
        except DeliveryError as error:
            if error.diagnosis.scope is not FailureScope.REPORT:
                raise
            progress.add_unclear(key, f"{error.diagnosis.title}.")
    yield


class _Refused(Exception):  # noqa: N818  # a state of a manifest, not a malfunction
    """The manifest is not used; the message says why."""


class _PublicKeys:
    """The public keys of this installation; if one is missing, that in the bucket, with a remark."""

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
                raise _Refused(f"{key} contains another key")
        except (OSError, ValueError, verifier.module().Malformed) as error:
            raise _Refused(f"The public key {fingerprint} is not available") from error
        self._progress.remarks.append(
            f"Manifests are signed by the key {fingerprint}, which this installation does not have: it was taken from "
            "the bucket. Verify the archive with a public key that you have from elsewhere."
        )
        self._known[fingerprint] = pem
        return pem


def _in_sequence(destination: Destination, keys: list[str], progress: Progress) -> list[str]:
    """Return the keys in the order of the chain. Names are in that order unless a clock was set back."""
    if not any(key.count(".") > 2 for key in (each.rpartition("/")[2] for each in keys)):
        return sorted(keys)
    order = {}
    for key in keys:
        try:
            with proof.fetched(destination, key) as file:
                order[key] = verifier.module().Header.read(key, file.readline(manifest_lines.LONGEST)).sequence
        except (OSError, verifier.module().Malformed) as error:
            progress.add_unclear(key, f"{error}.")
    return sorted(order, key=lambda key: order[key])


def _checked(destination: Destination, key: str, file: BinaryIO, public_keys: _PublicKeys, *, stamped: bool) -> _Stored:
    checks = verifier.module()
    line = file.readline(manifest_lines.LONGEST)
    try:
        header = checks.Header.read(key, line)
    except checks.Malformed as error:
        raise _Refused(str(error)) from error
    with proof.fetched(destination, f"{key}.sig") as beside:
        signature = beside.read(65)
    if not proof.Tools().signature(str(file.name), signature, public_keys.get(header.public_key)):
        raise _Refused("Its signature is not valid, so its lines were ignored")
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
    """Return the row of a stored manifest. It replaces one that was sealed here but not stored."""
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


def _read_ahead(
    interface: Interface, lines: Iterator[Lines], progress: Progress
) -> Iterator[tuple[Lines, Prepared | None]]:
    """Yield parsed lines, with prepared rows if possible, while another thread parses and prepares the next ones."""

    def following() -> tuple[Lines, Prepared | None] | None:
        if (part := next(lines, None)) is None:
            return None
        if progress.had_receipts or not part.found:
            return part, None
        return part, rebuild_rows.prepare(interface, part.found, progress.dashboards, all_new=progress.all_new)

    with ThreadPoolExecutor(1, "manifest") as thread:
        ahead = thread.submit(following)
        while (part := ahead.result()) is not None:
            ahead = thread.submit(following)
            yield part


def _write(
    interface: Interface, manifest: Manifest, lines: Lines, prepared: Prepared | None, progress: Progress
) -> None:
    for key, why in lines.unclear:
        progress.add_unclear(key, why)
    progress.listed.update(fingerprint(each.key, each.size, each.etag) for each in lines.found)
    known = _known(interface, lines.found) if progress.had_receipts else {}
    there = [each for each in lines.found if each.key in known]
    new = [each for each in lines.found if each.key not in known] if known else lines.found
    if again := rebuild_rows.write(interface, new, progress, prepared):  # another process restores the same reports
        known |= rebuild_rows.known_by_id(interface, [each.facts.report_id for each in again])
        there += [each for each in again if each.key in known]
    _compare(manifest, there, known, progress)


def _known(interface: Interface, found: list[Found]) -> dict[str, Known]:
    known = rebuild_rows.known_by_id(interface, [each.facts.report_id for each in found])
    # Reports that were ingested again with another id:
    return known | rebuild_rows.known_receipts(interface, [each.key for each in found if each.key not in known])


def _compare(manifest: Manifest, found: list[Found], known: dict[str, Known], progress: Progress) -> None:
    """Compare a manifest with existing receipts, and record in each that the manifest lists it."""
    unlisted = []
    for each in found:
        receipt = known[each.key]
        progress.known += 1
        if (receipt.sha256, receipt.size) != (each.facts.sha256, each.size):
            progress.add_unclear(each.key, f"The manifest of {manifest.day} differs from the receipt in the index.")
        elif receipt.manifest_id is None:
            unlisted.append(receipt.pk)
    for keys in batched(unlisted, AT_ONCE):
        Delivery.objects.filter(pk__in=keys, manifest=None).update(manifest=manifest)


def _note(interface: Interface, manifest: Manifest, lines: Lines, noted: int) -> int:
    """Store the other content of a manifest: irregularities, and titles, which its bytes contain.

    `noted` is how many irregularities were stored by an earlier rebuild and are skipped; return how many remain.
    """
    Irregularity.objects.bulk_create(
        Irregularity(interface_id=interface.pk, manifest=manifest, **values) for values in lines.irregularities[noted:]
    )
    if not lines.titles.items() <= manifest.titles.items():
        manifest.titles |= lines.titles
        manifest.save(update_fields=["titles"])
    return max(0, noted - len(lines.irregularities))
