"""Sends one report: opens its file, builds key and metadata, and makes the PUT. Runs in threads, without database."""

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, cast

from anaphora.deliveries import errors, files
from anaphora.deliveries.destinations import Destination, Receipt, Upload
from anaphora.deliveries.errors import DeliveryError, FailureScope
from anaphora.deliveries.files import StoredCopy
from anaphora.deliveries.object_keys import content_disposition, object_key, object_metadata
from anaphora.deliveries.queue import Claimed

logger = logging.getLogger(__name__)

Result = Receipt | DeliveryError | None
"""The outcome of one delivery; None if it was not attempted, because the interface failed or the run ended."""


@dataclass(frozen=True)
class Job:
    """One delivery to send, and the stored copies to read it from if housekeeping has removed the local copy."""

    delivery: Claimed
    destination: Destination
    key_prefix: str
    copies: Sequence[StoredCopy] = ()


def send(job: Job, halt: threading.Event) -> Result:
    """Upload one report. A failure of the interface sets `halt`, so that no other upload is started."""
    if halt.is_set():
        return None
    try:
        with _opened(job) as body:
            return _put(job, body)
    except DeliveryError as error:
        if error.diagnosis.scope is FailureScope.INTERFACE:
            halt.set()
        return error
    except Exception as error:
        logger.exception("Unexpected error in delivery %s", job.delivery.pk)
        return DeliveryError(errors.INTERNAL, type(error).__name__)


@contextmanager
def _opened(job: Job) -> Iterator[BinaryIO]:
    report = job.delivery
    if report.file or not job.copies:
        with closing(files.open_local(report)) as body:
            yield body
        return
    try:
        with files.fetched(report, job.copies) as body:
            yield body
    except files.Unavailable as error:
        raise DeliveryError(errors.LOCAL_COPY_MISSING, f"Removed by housekeeping. {error}") from error


def _put(job: Job, body: BinaryIO) -> Receipt:
    report = job.delivery
    try:
        return job.destination.put(_upload(report, job.key_prefix), body)
    except DeliveryError as error:
        if error.diagnosis is errors.DIGEST_MISMATCH:
            _check_unchanged(report, body)
        raise


def _upload(report: Claimed, key_prefix: str) -> Upload:
    slug = report.dashboard
    return Upload(
        key=object_key(
            prefix=key_prefix,
            dashboard=slug,
            rendered_at=report.rendered_at,
            sha256=report.sha256,
            suffix=report.suffix,
        ),
        size=report.size,
        sha256=report.sha256,
        md5=report.md5,
        content_type=report.content_type,
        content_disposition=content_disposition(report.filename),
        metadata=object_metadata(
            report_id=str(report.report_id),
            dashboard=slug,
            title=report.title,
            rendered_at=report.rendered_at,
            ingested_at=report.ingested_at,
            sha256=report.sha256,
            md5=report.md5,
            filename=report.filename,
        ),
    )


def _check_unchanged(report: Claimed, body: BinaryIO) -> None:
    """Raise LOCAL_COPY_CHANGED if the store refused the upload because the local copy changed, not the transfer."""
    body.seek(0)
    if hashlib.file_digest(cast("BufferedReader", body), "sha256").hexdigest() != report.sha256:
        raise DeliveryError(errors.LOCAL_COPY_CHANGED, f"Its SHA-256 is no longer {report.sha256}")
