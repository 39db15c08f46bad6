"""Which requests may write a file to this disk, decided before its first byte is written.

Django parses a form, and stores its files, as soon as anything asks for a field of it; the CSRF check does so for every
address, before any view. So the handler of uploads itself takes nothing, unless the address takes uploads and whoever
sent the request may upload; then size and space are checked first.
"""

from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler
from django.http import HttpRequest

from anaphora.reports.ingest import IngestError, check_size, check_space

UPLOAD_PAGE = "admin:reports_report_upload"

ROOM_FOR_FORM = 100_000
"""Bytes that a request may have beside its file."""


def check_coming(length: int) -> None:
    """Raise IngestError unless a request of `length` bytes, a form with one file, may come in."""
    check_size(length - ROOM_FOR_FORM)
    # Twice: the body lies in a temporary file until the report is in the local store.
    check_space(2 * length)


class GuardedUploadHandler(TemporaryFileUploadHandler):
    """Takes the files of the upload page and of the API's authenticated requests, and no others.

    What is refused for its size or for want of space is told by `refusal()`.
    """

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Begin a file. Raises StopUpload, and the rest of the request is not read."""
        request = self.request
        assert request is not None
        if not _may_upload(request):
            raise StopUpload(connection_reset=True)
        try:
            check_coming(int(request.headers.get("Content-Length") or 0))
        except IngestError as error:
            request.upload_refusal = error  # type: ignore[attr-defined]
            raise StopUpload(connection_reset=True) from error
        super().new_file(*args, **kwargs)
        _close_with(request, self.file)


def _close_with(request: HttpRequest, file: TemporaryUploadedFile) -> None:
    """Close a file, which removes it, when the request is closed.

    Django does so for the files of a request that it could read. Of one that broke it closes some: not the file
    that was being written when the connection was lost, nor one that was complete when another was refused.
    """
    close_others = request.close

    def close() -> None:
        close_others()
        file.close()

    request.close = close  # type: ignore[method-assign]


def allow(request: HttpRequest) -> None:
    """Let a request bring a file: whoever sent it has been authenticated, and its size checked."""
    request.upload_allowed = True  # type: ignore[attr-defined]


def refusal(request: HttpRequest) -> IngestError | None:
    """Return why the file of a request was not taken, once its form has been read."""
    return getattr(request, "upload_refusal", None)


def _may_upload(request: HttpRequest) -> bool:
    if getattr(request, "upload_allowed", False):
        return True
    match, user = request.resolver_match, getattr(request, "user", None)
    if match is None or match.view_name != UPLOAD_PAGE or user is None:
        return False
    return bool(user.is_active and user.is_staff and user.has_perm("reports.add_report"))
