"""Reads the bytes of a report: from its local copy or else from a store, where they are verified."""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, Protocol, cast
from uuid import UUID

from django.conf import settings

from anaphora.deliveries import errors
from anaphora.deliveries.errors import DeliveryError
from anaphora.deliveries.models import Delivery, Interface, State
from anaphora.reports.ingest import IngestError, check_space
from anaphora.reports.models import Report

logger = logging.getLogger(__name__)


class Unavailable(Exception):  # noqa: N818  # a state of a file, not a malfunction
    """The file cannot be read at present. The message gives the reason and, if there is one, the remedy."""


class ReportFile(Protocol):
    """The attributes needed to read a report's bytes. `Report` and `queue.Claimed` have them."""

    @property
    def local_path(self) -> Path: ...

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class StoredCopy:
    """The location of a stored report, from one receipt."""

    interface: Interface
    key: str
    version_id: str
    etag: str

    def stream(self, report: ReportFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the report's bytes from `start` up to, but not including, `end`. Raises DeliveryError.

        If the whole report is read, its SHA-256 is checked before the last bytes are yielded. If only a part is read,
        the object must still have the ETag of the receipt. If the receipt has no ETag, the whole object is read to
        verify it.
        """
        destination = self.interface.destination()
        if (start, end) != (0, report.size) and self.etag:
            yield from destination.stream(
                self.key, self.version_id, size=report.size, between=(start, end), etag=self.etag
            )
            return
        position = 0
        for chunk in _verified(destination.stream(self.key, self.version_id, size=report.size), report):
            part = chunk[max(start - position, 0) : max(end - position, 0)]
            position += len(chunk)
            if part:
                yield part

    def explain(self, error: DeliveryError) -> str:
        """Return a sentence that explains why the report cannot be read from this copy."""
        if error.diagnosis is errors.OBJECT_CHANGED:
            return f"{error.diagnosis.title}: {self.interface} holds {self.key}, but not the report: {error.detail}."
        needed = self.interface.needed_to_read
        hint = f" Reading needs {needed} for the interface's key; archiving does not." if needed else ""
        return (
            f"The report is in {self.interface} as {self.key}, but cannot be read there: {error.diagnosis.title}.{hint}"
        )


def stored_copies(reports: Collection[UUID]) -> dict[UUID, list[StoredCopy]]:
    """Return the stored copies of each report, the oldest receipt first. Runs two queries."""
    rows = list(Delivery.objects.filter(report__in=reports, state=State.DELIVERED).order_by("pk"))
    interfaces = {
        interface.pk: interface
        for interface in Interface.objects.filter(pk__in={row.interface_id for row in rows}).select_subclasses()
    }
    found: dict[UUID, list[StoredCopy]] = defaultdict(list)
    for row in rows:
        copy = StoredCopy(interfaces[row.interface_id], row.object_key, row.version_id, row.etag)
        found[row.report_id].append(copy)
    return found


def open_local(report: ReportFile) -> BinaryIO:
    """Open the local copy. Raises DeliveryError, also if its length is not that of the report."""
    path = report.local_path
    try:
        body = path.open("rb")
    except FileNotFoundError as error:
        raise DeliveryError(errors.LOCAL_COPY_MISSING, path.name) from error
    except OSError as error:
        raise DeliveryError(errors.LOCAL_COPY_UNREADABLE, f"{path.name}: {error.strerror}") from error
    size = os.fstat(body.fileno()).st_size
    if size != report.size:
        body.close()
        raise DeliveryError(errors.LOCAL_COPY_CHANGED, f"{size} bytes; {report.size} came in")
    return body


def read_stored(report: Report, start: int, end: int) -> Iterator[bytes]:
    """Return an iterator over a report's bytes from `start` up to, but not including, `end`.

    The bytes come from the first store that can be read. Raises Unavailable. The iterator raises DeliveryError if the
    object turns out not to be the report, or if the transfer breaks off.
    """
    problem = "The file is neither here nor archived."
    for copy in stored_copies([report.pk])[report.pk]:
        chunks = copy.stream(report, start, end)
        try:
            return _with_first(next(chunks, b""), chunks)
        except DeliveryError as error:
            problem = copy.explain(error)
            logger.warning("%s is not readable in %s: %s", copy.key, copy.interface, error)
    raise Unavailable(problem)


@contextmanager
def fetched(report: ReportFile, copies: Collection[StoredCopy]) -> Iterator[BinaryIO]:
    """Download a report from a store to a temporary file, verify it, and open it. Raises Unavailable.

    Uses no database. The file has a name, which other programs can open, until it is closed.
    """
    problem = "The file is neither here nor archived."
    with NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as body:
        for copy in copies:
            body.seek(0)
            body.truncate()
            try:
                check_space(report.size)
                for chunk in copy.stream(report, 0, report.size):
                    body.write(chunk)
                body.flush()
            except DeliveryError as error:
                problem = copy.explain(error)
                continue
            except (OSError, IngestError) as error:
                raise Unavailable(f"It cannot be fetched: {error}") from error
            body.seek(0)
            yield cast("BinaryIO", body)
            return
        raise Unavailable(problem)


@contextmanager
def opened(report: Report) -> Iterator[BinaryIO]:
    """Open a local file with the report's bytes: the local copy, or a download from a store. Raises Unavailable."""
    try:
        local = open_local(report)
    except DeliveryError:
        with fetched(report, stored_copies([report.pk])[report.pk]) as body:
            yield body
        return
    with closing(local):
        yield local


def problem(report: Report) -> str:
    """Return why the file cannot be read at present; empty if it can. Reads one byte from the store if necessary."""
    if report.local_path.exists():
        return ""
    try:
        for _ in read_stored(report, 0, 1):
            break
    except (Unavailable, DeliveryError) as error:
        return str(error)
    return ""


def _with_first(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield `first`, then `chunks`. Unlike itertools.chain, closing this generator closes `chunks` and its request."""
    yield first
    yield from chunks


def _verified(chunks: Iterator[bytes], report: ReportFile) -> Iterator[bytes]:
    """Yield a report's bytes; check their SHA-256 before yielding the last chunk. Raises DeliveryError."""
    digest, size, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        size += len(chunk)
        if size > report.size:
            raise DeliveryError(errors.OBJECT_CHANGED, f"it has more than the report's {report.size:,} bytes")
        if held:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != report.sha256:
        raise DeliveryError(errors.OBJECT_CHANGED, f"its SHA-256 is {digest.hexdigest()}, not the report's")
    yield held
