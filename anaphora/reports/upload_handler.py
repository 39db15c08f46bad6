"""Decides which requests may upload files, before the first byte is written to disk.

Django parses a form and stores its files when a field is read for the first time. The CSRF check does this for every
URL, before the view is called. Therefore the first upload handler, `UploadGuard`, accepts files only if the URL accepts
uploads and the user has permission. It also checks the size and the free disk space first. The handlers behind it keep
a small file in memory and write a large one to disk.
"""

from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload, TemporaryFileUploadHandler
from django.http import HttpRequest

from anaphora.reports.ingest import IngestError, check_size, check_space

UPLOAD_PAGE = "admin:reports_report_upload"

FORM_OVERHEAD = 100_000
"""Maximum number of bytes of a request in addition to its file."""


def check_request_size(length: int) -> None:
    """Raise IngestError if a form of `length` bytes with one file is too large or disk space is low."""
    check_size(length - FORM_OVERHEAD)
    # Twice the length, because the file exists twice until ingest is complete: temporary file and local copy.
    check_space(2 * length)


class UploadGuard(FileUploadHandler):
    """Accepts files only from the upload page and from authenticated API requests, for the handlers behind it.

    `upload_error()` returns the error if the size or the free disk space is not acceptable.
    """

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Raise StopUpload if the file is refused. The rest of the request is then not read."""
        request = self.request
        assert request is not None
        if getattr(request, "upload_allowed", False):
            return
        if not _may_use_upload_page(request):
            raise StopUpload(connection_reset=True)
        try:
            check_request_size(int(request.headers.get("Content-Length") or 0))
        except IngestError as error:
            request.upload_error = error  # type: ignore[attr-defined]
            raise StopUpload(connection_reset=True) from error

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Leave the content to the next handler."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the next handler."""


class DiskUploadHandler(TemporaryFileUploadHandler):
    """Writes a file to disk, and removes it when the request is closed, whatever happens to the request."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Begin a temporary file."""
        super().new_file(*args, **kwargs)
        assert self.request is not None
        _close_with(self.request, self.file)


def _close_with(request: HttpRequest, file: TemporaryUploadedFile) -> None:
    """Close a file, which deletes it, when the request is closed.

    Django closes the files of a complete request. After an incomplete request, Django does not close the file that was
    being written, nor complete files if a later one was refused.
    """
    close_others = request.close

    def close() -> None:
        close_others()
        file.close()

    request.close = close  # type: ignore[method-assign]


def allow_upload(request: HttpRequest) -> None:
    """Allow a request to upload a file. Call this after authentication and the size check."""
    request.upload_allowed = True  # type: ignore[attr-defined]


def upload_error(request: HttpRequest) -> IngestError | None:
    """Return why the file of a request was refused, or None. Read the form first."""
    return getattr(request, "upload_error", None)


def _may_use_upload_page(request: HttpRequest) -> bool:
    match, user = request.resolver_match, getattr(request, "user", None)
    if match is None or match.view_name != UPLOAD_PAGE or user is None:
        return False
    return bool(user.is_active and user.is_staff and user.has_perm("reports.add_report"))
