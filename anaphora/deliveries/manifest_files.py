"""Builds the bytes of a sealed manifest, and stores the manifest, its signature, time stamp and public key.

All of these are written like reports: by conditional PUTs, with the same retention. s3:PutObject is enough. The same
manifest always has the same bytes, so writing it again, after a failure or by two processes at once, changes nothing.
"""

import hashlib
import io
import json
import logging
import mmap
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from django.conf import settings
from django.utils import timezone

from anaphora.deliveries import errors, signing, time_stamps, verifier
from anaphora.deliveries.destinations import Destination, Integrity, Upload
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.manifest_models import Irregularity, Manifest
from anaphora.deliveries.models import Delivery, Interface
from anaphora.deliveries.object_keys import MANIFEST_VERSION, public_key_key, verifier_key
from anaphora.deliveries.signing import SigningProblem
from anaphora.reports.timestamps import iso_instant

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/jsonl"

_FIELDS = (
    "object_key", "version_id", "etag", "sha256", "size", "integrity", "retain_until", "delivered_at", "report_id",
    "report__md5", "report__content_type", "report__dashboard__slug", "report__rendered_at", "report__ingested_at",
    "report__filename",
)  # fmt: skip


def lines(manifest: Manifest) -> Iterator[bytes]:
    """Yield the lines of a sealed manifest: the header, the reports in the order of delivery, the irregularities."""
    yield manifest.header.encode() + b"\n"
    for row in Delivery.objects.filter(manifest=manifest).order_by("pk").values(*_FIELDS).iterator(1000):
        yield json.dumps(_report(row, manifest.titles), ensure_ascii=False).encode() + b"\n"
    for event in Irregularity.objects.filter(manifest=manifest).order_by("pk").iterator(1000):
        line = event.facts | {"type": "irregularity", "kind": event.kind, "at": iso_instant(event.at)}
        yield json.dumps(dict(sorted(line.items())), ensure_ascii=False).encode() + b"\n"


def _report(row: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    dashboard = row["report__dashboard__slug"]
    return {
        "type": "report",
        "key": row["object_key"],
        "version_id": row["version_id"],
        "etag": row["etag"],
        "sha256": row["sha256"],
        "md5": row["report__md5"],
        "size": row["size"],
        "content_type": row["report__content_type"],
        "dashboard": dashboard,
        "title": titles.get(dashboard, ""),
        "rendered_at": iso_instant(row["report__rendered_at"]),
        "ingested_at": iso_instant(row["report__ingested_at"]),
        "delivered_at": iso_instant(row["delivered_at"]),
        "filename": row["report__filename"],
        "report_id": str(row["report_id"]),
        "retain_until": iso_instant(row["retain_until"]) if row["retain_until"] else None,
        "integrity": row["integrity"],
    }


def put(interface: Interface, destination: Destination, manifest: Manifest) -> None:
    """Store a sealed manifest and the files that belong to it. Raises DeliveryError and SigningProblem.

    Call it again after a failure: it continues where it stopped.
    """
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
        upload = _write_body(manifest, body)
        _sign(manifest, upload, body)
        if manifest.wants_time_stamp:
            _fetch_time_stamp(manifest, body)
        _refuse_another(destination, upload)
        _put_keys_and_verifier(interface, destination, manifest)
        destination.put(upload, body)
    _put_bytes(destination, f"{manifest.key}.sig", bytes(manifest.signature), "application/octet-stream")
    _put_time_stamp(destination, manifest)
    manifest.written_at = timezone.now()
    manifest.save(update_fields=["written_at"])


def _refuse_another(destination: Destination, upload: Upload) -> None:
    """Raise DeliveryError if the store has another manifest with this key. Skipped if reading is not granted.

    Not every store supports conditional writes, and a database restored from a backup lacks the manifests written
    after the backup.
    """
    try:
        stored = destination.head(upload.key)
    except DeliveryError:
        return  # not granted, not needed
    if stored is None or stored.metadata.get("sha256") == upload.sha256:
        return
    if stored.size != upload.size or stored.integrity(sha256=upload.sha256, md5=upload.md5) is Integrity.NONE:
        raise DeliveryError(
            errors.KEY_TAKEN, f"{upload.key} is another manifest; run rebuild_index to continue the chain after it"
        )


def add_time_stamps(interface: Interface, destination: Destination) -> None:
    """Fetch and store time stamps that were not available when their manifests were written. Raises DeliveryError."""
    for manifest in Manifest.objects.filter(interface=interface, wants_time_stamp=True, written_at__isnull=False):
        with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
            _write_body(manifest, body)
            if not _fetch_time_stamp(manifest, body):
                return
        _put_time_stamp(destination, manifest)


def _write_body(manifest: Manifest, body: BinaryIO) -> Upload:
    """Write the manifest's bytes to a file; return the upload that stores them."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for line in lines(manifest):
        body.write(line)
        sha256.update(line)
        md5.update(line)
        size += len(line)
    body.flush()
    if manifest.sha256 and manifest.sha256 != sha256.hexdigest():
        raise SigningProblem(
            f"The receipts that {manifest.key} lists are not the same as when it was sealed: somebody changed receipts "
            "in the database. Restore the database from a backup, or rebuild it from the bucket (rebuild_index)."
        )
    metadata = {
        "format-version": str(MANIFEST_VERSION),
        "day": manifest.day.isoformat(),
        "sequence": str(manifest.sequence),
        "sha256": sha256.hexdigest(),
    }
    return Upload(manifest.key, size, sha256.hexdigest(), md5.hexdigest(), CONTENT_TYPE, metadata=metadata)


def _sign(manifest: Manifest, upload: Upload, body: BinaryIO) -> None:
    if manifest.signature:
        return
    key = signing.find(manifest.public_key)
    if key is None:
        raise SigningProblem(
            f"{manifest.key} must be signed by the private key {manifest.public_key}, which is not available. Put it "
            "back into SIGNING_KEY, or the key of FERNET_KEYS that decrypts it."
        )
    with mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
        manifest.signature = key.sign(content)
    manifest.sha256, manifest.size = upload.sha256, upload.size
    manifest.save(update_fields=["signature", "sha256", "size"])


def _fetch_time_stamp(manifest: Manifest, body: BinaryIO) -> bool:
    """Request the time stamp unless there is one; return whether there is one now.

    A failure delays only the time stamp, not the manifest.
    """
    if not manifest.time_stamp and settings.TIME_STAMP_URL:
        body.seek(0)
        try:
            manifest.time_stamp = time_stamps.fetch(settings.TIME_STAMP_URL, body.read())
        except time_stamps.NoTimeStamp as problem:
            logger.warning("No time stamp for %s: %s The request will be retried.", manifest.key, problem)
            return False
        manifest.save(update_fields=["time_stamp"])
    return bool(manifest.time_stamp)


def _put_time_stamp(destination: Destination, manifest: Manifest) -> None:
    if manifest.wants_time_stamp and manifest.time_stamp:
        _put_bytes(destination, f"{manifest.key}.tsr", bytes(manifest.time_stamp), "application/timestamp-reply")
        manifest.wants_time_stamp = False
        manifest.save(update_fields=["wants_time_stamp"])


def _put_keys_and_verifier(interface: Interface, destination: Destination, manifest: Manifest) -> None:
    """Store the public keys and the verifier, unless the previous manifest already named them."""
    header = json.loads(manifest.header)
    former = Manifest.objects.filter(interface=interface, sequence=manifest.sequence - 1).first()
    earlier = json.loads(former.header) if former else {}
    keys = {header["public_key"]: signing.known_public_keys().get(header["public_key"], "")}
    if announced := header.get("next_public_key"):
        keys[announced["fingerprint"]] = announced["pem"]
    stored = {earlier.get("public_key"), earlier.get("next_public_key", {}).get("fingerprint")}
    for fingerprint, pem in keys.items():
        if pem and fingerprint not in stored:
            name = public_key_key(prefix=interface.key_prefix, fingerprint=fingerprint)
            _put_bytes(destination, name, pem.encode(), "application/x-pem-file")
    if earlier.get("verifier") != header["verifier"] == verifier.sha256():
        name = verifier_key(prefix=interface.key_prefix, sha256=header["verifier"])
        _put_bytes(destination, name, verifier.content(), "text/x-python; charset=utf-8")


def _put_bytes(destination: Destination, key: str, content: bytes, content_type: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    upload = Upload(
        key=key,
        size=len(content),
        sha256=sha256,
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        content_type=content_type,
        metadata={"format-version": str(MANIFEST_VERSION), "sha256": sha256},
    )
    destination.put(upload, io.BytesIO(content))
