"""Builds the evidence for one report: a ZIP file that proves the report offline, without this installation.

It contains the report, its receipt, the manifest that lists it with signature and time stamp, the signed hashes of the
chain up to the latest manifest, the public keys, the verifier, and a page of instructions.
"""

import hashlib
import json
import tempfile
import zipfile
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone

from anaphora.deliveries import evidence_page, files, manifest_files, proof, signing, verifier
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.manifest_models import Manifest
from anaphora.deliveries.models import Delivery, State
from anaphora.deliveries.object_keys import MANIFEST_VERSION
from anaphora.deliveries.signing import Key, SigningProblem
from anaphora.reports.models import Report
from anaphora.reports.timestamps import iso_instant


class NoEvidence(Exception):  # noqa: N818  # a state of a report, not a malfunction
    """A report has no evidence at present. The message gives the reason and, if there is one, the remedy."""


def available(report: Report) -> bool:
    """Return whether there is evidence for a report: whether a written manifest lists it."""
    return _listed(report) is not None


def make(report: Report, target: BinaryIO) -> None:
    """Write the evidence for a report to `target`. Raises NoEvidence; the caller must then discard the file."""
    delivery = _listed(report)
    if delivery is None or delivery.manifest is None:
        raise NoEvidence(
            "No manifest lists this report yet. The manifest of a day is written after the day is over, in UTC. "
            "write_manifests --until writes today's now; what is delivered after that is in tomorrow's."
        )
    try:
        key = signing.current()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
            _add_report(package, report, delivery)
            _add_manifest(package, delivery, delivery.manifest)
            _add_statement(package, delivery, delivery.manifest, key)
    except (files.Unavailable, SigningProblem) as problem:
        raise NoEvidence(str(problem)) from problem
    except (DeliveryError, FileNotFoundError) as error:
        raise NoEvidence(f"The manifest cannot be read in the store: {error}.") from error


def _listed(report: Report) -> Delivery | None:
    rows = Delivery.objects.filter(report=report, state=State.DELIVERED, manifest__written_at__isnull=False)
    return rows.select_related("manifest", "interface", "report__dashboard").order_by("pk").first()


def _report_name(delivery: Delivery) -> str:
    return f"report/{delivery.object_key.rpartition('/')[2]}"


def _manifest_name(manifest: Manifest) -> str:
    return f"manifest/{manifest.key.rpartition('/')[2]}"


def _add_report(package: zipfile.ZipFile, report: Report, delivery: Delivery) -> None:
    digest = hashlib.sha256()
    info = zipfile.ZipInfo(_report_name(delivery))  # not compressed: most reports are compressed already
    with files.opened(report) as source, package.open(info, "w", force_zip64=True) as member:
        while chunk := source.read(1024 * 1024):
            digest.update(chunk)
            member.write(chunk)
    if digest.hexdigest() != report.sha256:
        raise files.Unavailable(
            "The local copy is not what came in: its SHA-256 differs. Check the disk, and run verify_archive."
        )
    package.writestr("receipt.json", json.dumps(_receipt(delivery), indent=2, ensure_ascii=False))


def _receipt(delivery: Delivery) -> dict[str, Any]:
    report = delivery.report
    return {
        "report_id": str(report.pk),
        "dashboard": report.dashboard.slug,
        "rendered_at": iso_instant(report.rendered_at),
        "ingested_at": iso_instant(report.ingested_at),
        "filename": report.filename,
        "content_type": report.content_type,
        "size": report.size,
        "sha256": report.sha256,
        "interface": delivery.interface.name,
        "place": delivery.interface.child().place,
        "object_key": delivery.object_key,
        "version_id": delivery.version_id,
        "etag": delivery.etag,
        "integrity": delivery.integrity,
        "delivered_at": iso_instant(delivery.delivered_at) if delivery.delivered_at else None,
        "retain_until": iso_instant(delivery.retain_until) if delivery.retain_until else None,
    }


def _add_manifest(package: zipfile.ZipFile, delivery: Delivery, manifest: Manifest) -> None:
    name = _manifest_name(manifest)
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
        for line in manifest_files.lines(manifest):
            body.write(line)
        body.seek(0)
        if proof.digest_of(cast("BinaryIO", body)) == manifest.sha256:
            body.seek(0)
            _copy(package, name, cast("BinaryIO", body))
        else:  # a rebuilt index may list the lines in another order, so the bytes come from the store
            with proof.fetched(delivery.interface.destination(), manifest.key) as stored:
                _copy(package, name, stored)
    package.writestr(f"{name}.sig", bytes(manifest.signature))
    if manifest.time_stamp:
        package.writestr(f"{name}.tsr", bytes(manifest.time_stamp))
    elif json.loads(manifest.header).get("time_stamp"):
        with proof.fetched(delivery.interface.destination(), f"{manifest.key}.tsr") as stored:
            _copy(package, f"{name}.tsr", stored)


def _copy(package: zipfile.ZipFile, name: str, source: BinaryIO) -> None:
    with package.open(name, "w", force_zip64=True) as member:
        while chunk := source.read(1024 * 1024):
            member.write(chunk)


def _add_statement(package: zipfile.ZipFile, delivery: Delivery, manifest: Manifest, key: Key) -> None:
    fields = ("sequence", "day", "key", "sha256", "public_key")
    following = Manifest.objects.filter(
        interface=delivery.interface_id, sequence__gte=manifest.sequence, written_at__isnull=False
    )
    chain = [{**each, "day": each["day"].isoformat()} for each in following.order_by("sequence").values(*fields)]
    statement = {
        "type": "evidence",
        "format_version": MANIFEST_VERSION,
        "made_at": iso_instant(timezone.now()),
        "public_key": key.fingerprint,
        "report": {
            "file": _report_name(delivery),
            "key": delivery.object_key,
            "sha256": delivery.sha256,
            "report_id": str(delivery.report_id),
        },
        "manifest": _manifest_name(manifest),
        "chain": chain,
    }
    content = json.dumps(statement, indent=1).encode()
    package.writestr("evidence.json", content)
    package.writestr("evidence.json.sig", key.sign(content))
    known = signing.known_public_keys() | {key.fingerprint: key.public_pem}
    for fingerprint in {key.fingerprint, manifest.public_key} & set(known):
        package.writestr(f"keys/{fingerprint}.pem", known[fingerprint])
    package.writestr("verify_archive.py", verifier.content())
    package.writestr("READ ME.pdf", evidence_page.page(_explanation(delivery, manifest, key, chain)))


def _explanation(delivery: Delivery, manifest: Manifest, key: Key, chain: list[dict[str, Any]]) -> str:
    report = delivery.report
    context = {
        "title": f"{report.dashboard} of {report.rendered_at:%Y-%m-%d %H:%M:%S} UTC"[:54],
        "delivery": delivery,
        "report": report,
        "filename": report.filename[:80],
        "place": delivery.interface.child().place,
        "manifest": manifest,
        "key": key,
        "file": _report_name(delivery),
        "name": _manifest_name(manifest),
        "last": chain[-1]["day"],
        "number": len(chain),
    }
    return render_to_string("deliveries/evidence.txt", context)
