"""`ingest()`: the one way a report comes in, whatever the door.

The file goes straight into the local store while its digests are taken, so a large one costs no memory; the
report and its pending deliveries then appear in one transaction. Whatever fails on the way, nothing is left
behind: no row, no file.
"""

import errno
import hashlib
import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from anaphora.reports.models import Dashboard, Report
from anaphora.reports.signals import report_ingested

MAX_SIZE = 5 * 1024**3
"""Bytes. What one PutObject may carry (Amazon S3 User Guide, "Uploading objects")."""

_CHUNK = 1024 * 1024


class IngestError(Exception):
    """A report can't be taken in. `field` is the input at fault, the message says what is wrong and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Ingested:
    """What became of a file: its report, and whether it is new."""

    report: Report
    created: bool


@dataclass(frozen=True)
class _Digests:
    size: int
    sha256: str
    md5: str


def ingest(*, source: BinaryIO, filename: str, dashboard: str, rendered_at: datetime) -> Ingested:
    """Take one rendered file in and return its report, with the deliveries that policies want made pending.

    `source` is read from where it stands to its end. `filename` may carry a folder, which is dropped.
    `dashboard` is a slug; a dashboard not seen before is created. `rendered_at` must have a time zone;
    fractions of a second are dropped. The same dashboard, instant and content again are the same report;
    should its local copy have vanished, the file takes its place.

    Raises IngestError, and then nothing has changed.
    """
    report = Report(filename=_plain_name(filename), rendered_at=_instant(rendered_at))
    report.content_type = mimetypes.guess_type(report.filename)[0] or "application/octet-stream"
    report.dashboard = Dashboard(slug=_checked_slug(dashboard))
    with _new_file(report.local_path) as target:
        digests = _copy(source, target)
        report.size, report.sha256, report.md5 = digests.size, digests.sha256, digests.md5
        return _record(report)


def _record(report: Report) -> Ingested:
    with transaction.atomic():
        report.dashboard, _ = Dashboard.objects.get_or_create(slug=report.dashboard.slug)
        report.file.name = report.local_name
        try:
            with transaction.atomic():
                report.save(force_insert=True)
        except IntegrityError:
            known = Report.objects.select_related("dashboard").get(
                dashboard=report.dashboard, rendered_at=report.rendered_at, sha256=report.sha256
            )
            if not known.local_path.exists():
                _move(report.local_path, known.local_path)
                Report.objects.filter(pk=known.pk).update(file=known.local_name)
            else:
                report.local_path.unlink()
            return Ingested(known, created=False)
        report_ingested.send(sender=Report, report=report)
        return Ingested(report, created=True)


def _checked_slug(slug: str) -> str:
    try:
        Dashboard(slug=slug).clean_fields(exclude={"title"})
    except ValidationError as error:
        raise IngestError(
            "dashboard",
            f"{slug!r} is not a dashboard's slug: use 1 to 100 letters, digits, hyphens and underscores.",
        ) from error
    return slug


def _instant(rendered_at: datetime) -> datetime:
    if rendered_at.utcoffset() is None:
        raise IngestError(
            "rendered_at",
            f"{rendered_at.isoformat()} has no time zone: add one, as in {rendered_at.isoformat()}+00:00 or …Z.",
        )
    try:
        return rendered_at.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise IngestError("rendered_at", f"{rendered_at.isoformat()} lies outside the calendar.") from error


def _plain_name(filename: str) -> str:
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(character if character.isprintable() else "_" for character in name)
    if not name or set(name) == {"."}:
        raise IngestError("filename", f"{filename!r} names no file: give a name such as report.pdf.")
    if len(name.encode("utf-8", "replace")) > 255:
        raise IngestError("filename", f"The name {name[:40]}… is longer than 255 bytes: shorten it.")
    return name


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that stays if the block succeeds and is gone if it doesn't.

    It is on the disk, and so is its name, before the block's own end: see `_copy`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("xb")
    except OSError as error:
        raise _local_store_error(error) from error
    try:
        with target:
            yield target
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copy(source: BinaryIO, target: BinaryIO) -> _Digests:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    while chunk := _read(source):
        size += len(chunk)
        if size > MAX_SIZE:
            raise IngestError("file", "The file is larger than 5 GiB, the most that one upload to S3 may carry.")
        sha256.update(chunk)
        md5.update(chunk)
        try:
            target.write(chunk)
        except OSError as error:
            raise _local_store_error(error) from error
    if size == 0:
        raise IngestError("file", "The file is empty: the rendering may have failed; render it again.")
    try:
        target.flush()
        os.fsync(target.fileno())
        _sync_folder(Path(target.name).parent)
    except OSError as error:
        raise _local_store_error(error) from error
    return _Digests(size, sha256.hexdigest(), md5.hexdigest())


def _read(source: BinaryIO) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:
        raise IngestError("file", f"The file can't be read: {error.strerror or error}.") from error


def _move(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    path.replace(to)
    _sync_folder(to.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_store_error(error: OSError) -> IngestError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return IngestError("file", "The local disk is full: free some space under DATA_DIR, then send the file again.")
    return IngestError("file", f"The local store can't be written: {error.strerror}. Check the folder DATA_DIR.")
