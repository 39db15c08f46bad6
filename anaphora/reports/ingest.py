"""`ingest()`: the one way a report comes in, whatever the door.

The file goes straight into the local store while its digests are taken, so a large one costs no memory; the
report and its pending deliveries then appear in one transaction. Whatever fails on the way, nothing is left
behind: no row, no file.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from anaphora.reports import content_types
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.signals import report_ingested
from anaphora.reports.timestamps import is_plausible

_CHUNK = 1024 * 1024


class Reason(StrEnum):
    """Why a report can't be taken in."""

    INVALID = "invalid"
    TOO_LARGE = "too large"
    UNSUPPORTED = "unsupported"
    NO_SPACE = "no space"
    STORE = "store"

    @property
    def passes(self) -> bool:
        """Whether the same report may be taken in later: the trouble is ours, not the report's."""
        return self in {Reason.NO_SPACE, Reason.STORE}


class IngestError(Exception):
    """A report can't be taken in. `field` is the input at fault, the message says what is wrong and what to do."""

    def __init__(self, field: str, message: str, reason: Reason = Reason.INVALID) -> None:
        super().__init__(message)
        self.field, self.reason = field, reason


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
    report.dashboard = Dashboard(slug=_checked_slug(dashboard))
    check_space()
    head = _read(source, content_types.HEAD)
    report.content_type = _accepted_type(head, report.filename)
    with _new_file(report.local_path) as target:
        digests = _copy(head, source, target)
        report.size, report.sha256, report.md5 = digests.size, digests.sha256, digests.md5
        return _record(report)


def check_space(coming: int = 0) -> None:
    """Raise IngestError unless the local disk keeps MIN_FREE_MB free, with so many bytes more on it."""
    try:
        free = shutil.disk_usage(settings.DATA_DIR).free
    except OSError as error:
        raise _local_store_error(error) from error
    if free - coming < settings.MIN_FREE_MB * 10**6:
        raise IngestError(
            "file",
            f"The local disk is nearly full: {free // 10**6} MB are free under DATA_DIR, and {settings.MIN_FREE_MB} MB "
            "stay free (MIN_FREE_MB). Make room there, then send the file again.",
            Reason.NO_SPACE,
        )


def check_size(size: int) -> None:
    """Raise IngestError for a file of more than INGEST_MAX_BYTES."""
    if size > settings.INGEST_MAX_BYTES:
        raise IngestError(
            "file",
            f"The file is larger than {settings.INGEST_MAX_BYTES:,} bytes (INGEST_MAX_BYTES).",
            Reason.TOO_LARGE,
        )


def _accepted_type(head: bytes, filename: str) -> str:
    if not head:
        raise IngestError("file", "The file is empty: the rendering may have failed; render it again.")
    found = content_types.content_type(head, filename)
    others = settings.INGEST_OTHER_TYPES
    if found in content_types.KINDS or found in others:
        return found
    if risk := content_types.risk(head, filename):
        raise IngestError(
            "file",
            f"The file is {risk}, which no report is. If it is to be archived all the same, name its type, {found}, in "
            "INGEST_OTHER_TYPES.",
            Reason.UNSUPPORTED,
        )
    if "*" in others:
        return found
    kinds = ", ".join(sorted({kind.endings[0][1:].upper() for kind in content_types.KINDS.values()}))
    raise IngestError(
        "file",
        f"The content is {found}, none of {kinds}. If it is to be archived, name its type in INGEST_OTHER_TYPES.",
        Reason.UNSUPPORTED,
    )


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
    # Compared before it is converted: the calendar's ends are in no other time zone.
    if not is_plausible(rendered_at, timezone.now()):
        raise IngestError(
            "rendered_at",
            f"{rendered_at.isoformat()} is not between 1970 and one day from now: check the date, and the clock of "
            "the machine that rendered the report.",
        )
    return rendered_at.astimezone(UTC).replace(microsecond=0)


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


def _copy(head: bytes, source: BinaryIO, target: BinaryIO) -> _Digests:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in chain([head], iter(partial(_read, source, _CHUNK), b"")):
        size += len(chunk)
        check_size(size)
        sha256.update(chunk)
        md5.update(chunk)
        try:
            target.write(chunk)
        except OSError as error:
            raise _local_store_error(error) from error
    try:
        target.flush()
        os.fsync(target.fileno())
        _sync_folder(Path(target.name).parent)
    except OSError as error:
        raise _local_store_error(error) from error
    return _Digests(size, sha256.hexdigest(), md5.hexdigest())


def _read(source: BinaryIO, number: int) -> bytes:
    """Read up to so many bytes; fewer only at the end, whatever the source does."""
    try:
        found = source.read(number)
        while found and len(found) < number and (more := source.read(number - len(found))):
            found += more
        return found
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
        message = "The local disk is full: free some space under DATA_DIR, then send the file again."
        return IngestError("file", message, Reason.NO_SPACE)
    message = f"The local store can't be written: {error.strerror}. Check the folder DATA_DIR."
    return IngestError("file", message, Reason.STORE)
