"""Builds HTTP responses with a report's file, from the local copy or else from a store.

PDF, PNG and JPEG are displayed by the browser. All other types are downloaded, because HTML and SVG can contain
scripts, which must not run with this site's origin.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import BinaryIO, cast

from django.conf import settings
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header

from anaphora.activity import AN_HOUR, Action, record
from anaphora.deliveries import evidence, files
from anaphora.deliveries.errors import DeliveryError
from anaphora.reports.content_types import PREVIEWABLE
from anaphora.reports.ingest import IngestError, check_space
from anaphora.reports.models import Report
from anaphora.reports.timestamps import compact_instant

_CHUNK = 64 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def response(report: Report, request: HttpRequest) -> HttpResponseBase:
    """Return the file, the requested range of it, or 304 if the client has it. Raises files.Unavailable.

    The ETag is the SHA-256. A request for one range of bytes (RFC 9110, section 14.2) gets that range, a request for
    several gets the whole file. The read is recorded in the audit trail before any byte is sent.
    """
    etag = f'"{report.sha256}"'
    disposition = content_disposition_header(report.content_type not in PREVIEWABLE, report.filename) or "attachment"
    answer: HttpResponseBase
    if kept := get_conditional_response(request, etag=etag):
        answer = kept
    elif link := _link(report, disposition):
        _record_read(report, request)
        # The link expires after a minute, so caches must not keep it.
        return HttpResponseRedirect(link, headers={"Cache-Control": "no-store"})
    else:
        answer = _bytes(report, _range(request, report.size, etag))
        try:
            _record_read(report, request)
        except BaseException:
            answer.close()
            raise
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, max-age=31536000, immutable"
    answer["Accept-Ranges"] = "bytes"
    answer["Content-Disposition"] = disposition
    answer["X-Content-Type-Options"] = "nosniff"
    # PDF viewers of browsers don't work in a sandbox.
    answer["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'"
    return answer


def _record_read(report: Report, request: HttpRequest) -> None:
    """Record the download. An image in a page, and later ranges of a file, are recorded at most once an hour.

    The decision depends on the response, not on the header alone: an invalid range gets the whole file.
    """
    if request.headers.get("Sec-Fetch-Dest") == "image" and report.content_type.startswith("image/"):
        record(Action.VIEWED, report, request=request, once=AN_HOUR)
        return
    wanted = _range(request, report.size, f'"{report.sha256}"')
    record(Action.DOWNLOADED, report, request=request, once=AN_HOUR if wanted and wanted[0] else None)


def evidence_response(report: Report) -> FileResponse:
    """Return the evidence for a report. Raises evidence.NoEvidence."""
    try:
        check_space(report.size)
    except IngestError as error:
        raise evidence.NoEvidence(str(error)) from error
    package = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115  # the response closes it
    try:
        evidence.make(report, cast("BinaryIO", package))
        record(Action.EVIDENCE, report)
    except BaseException:
        package.close()
        raise
    package.seek(0)
    name = f"evidence-{report.dashboard.slug}-{compact_instant(report.rendered_at)}.zip"
    answer = FileResponse(package, as_attachment=True, filename=name, content_type="application/zip")
    answer["Cache-Control"] = "private, no-store"
    return answer


def _link(report: Report, disposition: str) -> str:
    if not settings.PRESIGN_DOWNLOADS or report.local_path.exists():
        return ""
    for copy in files.stored_copies([report.pk])[report.pk]:
        with suppress(DeliveryError):
            return copy.interface.destination().presigned_url(
                copy.key, copy.version_id, content_type=report.content_type, disposition=disposition
            )
    return ""


def _bytes(report: Report, wanted: tuple[int, int] | None) -> HttpResponseBase:
    """Return a response with the bytes of the half-open range `wanted`, or with all bytes if it is None."""
    start, end = wanted or (0, report.size)
    if start >= end:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{report.size}"})
    answer: HttpResponseBase
    try:
        local = files.open_local(report)
    except DeliveryError:
        answer = StreamingHttpResponse(files.read_stored(report, start, end))
    else:
        answer = StreamingHttpResponse(_part(local, start, end)) if wanted else FileResponse(local)
    answer["Content-Type"] = report.content_type
    answer["Content-Length"] = str(end - start)
    if wanted:
        answer.status_code = 206
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{report.size}"
    return answer


def _range(request: HttpRequest, size: int, etag: str) -> tuple[int, int] | None:
    """Return the requested range as a half-open one; None if the request has no valid range."""
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if not found or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = found.groups()
    if first:
        return int(first), min(int(last) + 1 if last else size, size)
    return (max(size - int(last), 0), size) if last else None


def _part(local: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with closing(local):
        local.seek(start)
        while start < end and (chunk := local.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk
