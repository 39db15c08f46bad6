"""Verifies manifests in the store, with the code of the stand-alone verifier.

It reads objects of an interface instead of files of a folder, and compares the lines of manifests with the receipts
instead of the objects. `verification` compares the receipts with the objects. Nothing is changed.
"""

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any, BinaryIO, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from rfc3161_client import decode_timestamp_response

from anaphora.deliveries import signing, verifier
from anaphora.deliveries.destinations import Destination
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.manifest_models import Manifest
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.deliveries.object_keys import public_key_key

_CHUNK = 2000
LARGEST = 4 * 1024**3
"""Bytes. Larger manifests are refused; no real one comes near this size."""


def verify_manifests(interface: Interface) -> Any:
    """Verify an interface's manifests; return the verifier's `Findings`. Requires permission to read objects.

    With permission to list the bucket, objects that no manifest lists are found, too. Raises DeliveryError.
    """
    checks = verifier.module()
    findings = checks.Findings()
    receipts, source = _Receipts(interface), StoredFiles(interface)
    checks.Verification(source, signing.known_public_keys(), Tools(), findings, check=receipts.compare).run()
    listed = sum(chain["reports"] for chain in findings.chains)
    expected = Delivery.objects.filter(interface=interface, manifest__written_at__isnull=False).count()
    if listed < expected and not findings.counts:
        text = f"according to the index, manifests list {expected:,} reports, but they list {listed:,}"
        findings.add("receipt-unlisted", interface.name, text)
    if not source.listed:
        findings.remark("Listing is not permitted, so there was no search for objects that no manifest lists.")
    return findings


class StoredFiles:
    """The objects of one interface, with the methods of the verifier's `Folder`."""

    def __init__(self, interface: Interface) -> None:
        self._interface, self._destination = interface, interface.destination()
        self.listed = True
        others = Interface.objects.filter(key_prefix__startswith=interface.key_prefix).exclude(pk=interface.pk)
        self._elsewhere = tuple(
            each.key_prefix
            for each in others.select_subclasses()
            if each.container == interface.container and each.key_prefix != interface.key_prefix
        )

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield the keys, except those of other interfaces and of reports that are not in a written manifest yet."""
        try:
            listing = self._destination.list_objects(self._interface.key_prefix)
            pages = ([each.key for each in page] for page in listing)
            first = next(pages, [])
        except DeliveryError:
            self.listed = False
            yield from ((key, "") for key in self._written())
            return
        for page in chain([first], pages):
            waiting = set(
                Delivery.objects.filter(
                    interface=self._interface, state=State.DELIVERED, manifest__written_at=None, object_key__in=page
                ).values_list("object_key", flat=True)
            )
            for key in page:
                if key not in waiting and not (self._elsewhere and key.startswith(self._elsewhere)):
                    yield key, ""

    def _written(self) -> Iterator[str]:
        for manifest in Manifest.objects.filter(interface=self._interface, written_at__isnull=False):
            yield manifest.key
            yield f"{manifest.key}.sig"
            if manifest.time_stamp and not manifest.wants_time_stamp:
                yield f"{manifest.key}.tsr"
        for fingerprint in signing.known_public_keys():
            key = public_key_key(prefix=self._interface.key_prefix, fingerprint=fingerprint)
            if self._destination.head(key):
                yield key

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Download an object and open it. Raises FileNotFoundError, OSError and DeliveryError."""
        with fetched(self._destination, name) as file:
            yield file


@contextmanager
def fetched(destination: Destination, key: str) -> Iterator[BinaryIO]:
    """Download an object to a temporary file and open it. Raises FileNotFoundError, OSError and DeliveryError."""
    stored = destination.head(key)
    if stored is None:
        raise FileNotFoundError(key)
    if stored.size > LARGEST:
        raise OSError(f"{key} has {stored.size:,} bytes")
    with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        for chunk in destination.stream(key, stored.version_id, size=stored.size):
            file.write(chunk)
        file.flush()
        file.seek(0)
        yield cast("BinaryIO", file.file)  # without the wrapper, which makes each call slower


class Tools:
    """Checks signatures and time stamps in this process; the stand-alone verifier runs openssl instead."""

    checks_authority = True  # the operator chose the authority; the verifier's remark about it is for auditors

    def signature(self, content: str, signature: bytes, pem: str) -> bool:
        """Return whether the signature is valid for the file `content`."""
        public = load_pem_public_key(pem.encode())
        assert isinstance(public, Ed25519PublicKey)
        with (
            open(content, "rb") as file,  # noqa: PTH123
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            try:
                public.verify(signature, view)
            except InvalidSignature:
                return False
        return True

    def time_stamp(self, content: str, digest: str, token: bytes) -> datetime:
        """Return the time at which an authority stamped a file with this SHA-256. Raises the verifier's Malformed."""
        malformed = verifier.module().Malformed
        try:
            found = decode_timestamp_response(token).tst_info
        except ValueError as error:
            raise malformed("it is not a time stamp") from error
        if found.message_imprint.message.hex() != digest:
            raise malformed("it is the time stamp of another file")
        return found.gen_time


class _Receipts:
    """Compares lines of manifests with the receipts, which are read in chunks of a few thousand."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._rows: dict[str, tuple[str, int, str, str]] = {}

    def compare(self, name: str, line: dict[str, Any]) -> tuple[str, str]:
        """Return a finding's kind and text, both empty if receipt and manifest agree."""
        if name not in self._rows:
            self._load(name)
        found = self._rows.get(name)
        if found is None:
            return "receipt-missing", "a manifest lists it, but the index has no receipt for it: run rebuild_index"
        expected = line.get("sha256"), line.get("size"), line.get("version_id"), line.get("etag")
        if found != expected:
            return "receipt-altered", f"the manifest says {expected}, the receipt {found}"
        return "", ""

    def _load(self, key: str) -> None:
        rows = Delivery.objects.filter(interface=self._interface, state=State.DELIVERED)
        report_digest = key.rpartition("_")[2].partition(".")[0]
        near = rows.filter(object_key=key, report__sha256__startswith=report_digest).first() if report_digest else None
        if near is None:
            return
        following = rows.filter(manifest=near.manifest_id, pk__gte=near.pk).order_by("pk")[:_CHUNK]
        fields = following.values_list("object_key", "sha256", "size", "version_id", "etag")
        self._rows = {each[0]: cast("tuple[str, int, str, str]", each[1:]) for each in fields}


def digest_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a file from its current position to its end."""
    found = sha256()
    while chunk := file.read(1024 * 1024):
        found.update(chunk)
    return found.hexdigest()
