"""`ingest()`, the only function that ingests reports. The API, the inbox, the upload page and the command call it.

The file is written to the local store while its digests are computed, so memory use does not depend on its size. The
report and its pending deliveries are then created in one transaction. On failure, neither a row nor a file remains.
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
    """Why a report cannot be ingested."""

    INVALID = "invalid"
    TOO_LARGE = "too large"
    UNSUPPORTED = "unsupported"
    NO_SPACE = "no space"
    STORE = "store"

    @property
    def temporary(self) -> bool:
        """Whether the same report can be ingested later: the problem is on this system, not in the report."""
        return self in {Reason.NO_SPACE, Reason.STORE}


class IngestError(Exception):
    """A report cannot be ingested. `field` is the invalid input. The message says what is wrong and what to do."""

    def __init__(self, field: str, message: str, reason: Reason = Reason.INVALID) -> None:
        super().__init__(message)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class Ingested:
    """The result of an ingest: the report, and whether it is new."""

    report: Report
    created: bool


@dataclass(frozen=True)
class _Digests:
    size: int
    sha256: str
    md5: str


def ingest(*, source: BinaryIO, filename: str, dashboard: str, rendered_at: datetime) -> Ingested:
    """Ingest one rendered file: create its report and the pending deliveries that policies require.

    `source` is read from its current position to the end. A folder in `filename` is removed. `dashboard` is a slug; if
    the dashboard does not exist, it is created. `rendered_at` must have a time zone; fractions of a second are removed.
    If a report with the same dashboard, instant and content exists, it is returned. If its local copy is missing, the
    file replaces it.

    Raises IngestError. Nothing is changed in this case.
    """
    report = Report(filename=_clean_filename(filename), rendered_at=_validate_rendered_at(rendered_at))
    report.dashboard = Dashboard(slug=_validate_slug(dashboard))
    check_space()
    head = _read_full(source, content_types.HEAD_SIZE)
    report.content_type = _check_content_type(head, report.filename)
    with _new_file(report.local_path) as target:
        digests = _copy_and_hash(head, source, target)
        report.size, report.sha256, report.md5 = digests.size, digests.sha256, digests.md5
        return _save(report)


def check_space(extra_bytes: int = 0) -> None:
    """Raise IngestError unless MIN_FREE_MB remain free on the local disk after writing `extra_bytes`."""
    try:
        free = shutil.disk_usage(settings.DATA_DIR).free
    except OSError as error:
        raise _local_store_error(error) from error
    if free - extra_bytes < settings.MIN_FREE_MB * 10**6:
        raise IngestError(
            "file",
            f"The local disk is nearly full: DATA_DIR has {free // 10**6} MB free, and {settings.MIN_FREE_MB} MB must "
            "remain free (MIN_FREE_MB). Free disk space, then send the file again.",
            Reason.NO_SPACE,
        )


def check_size(size: int) -> None:
    """Raise IngestError if `size` exceeds INGEST_MAX_BYTES."""
    if size > settings.INGEST_MAX_BYTES:
        raise IngestError(
            "file",
            f"The file is larger than {settings.INGEST_MAX_BYTES:,} bytes (INGEST_MAX_BYTES).",
            Reason.TOO_LARGE,
        )


def _check_content_type(head: bytes, filename: str) -> str:
    if not head:
        raise IngestError("file", "The file is empty. Rendering may have failed; render the report again.")
    found = content_types.detect_content_type(head, filename)
    others = settings.INGEST_OTHER_TYPES
    if found in content_types.KNOWN_KINDS or found in others:
        return found
    if risk := content_types.describe_risk(head, filename):
        raise IngestError(
            "file",
            f"The file is {risk}. Reports are not programs or scripts. To archive it anyway, add its type {found} to "
            "INGEST_OTHER_TYPES.",
            Reason.UNSUPPORTED,
        )
    if "*" in others:
        return found
    kinds = ", ".join(sorted({kind.extensions[0][1:].upper() for kind in content_types.KNOWN_KINDS.values()}))
    raise IngestError(
        "file",
        f"The content is {found}, not one of {kinds}. To archive it, add this type to INGEST_OTHER_TYPES.",
        Reason.UNSUPPORTED,
    )


def _save(report: Report) -> Ingested:
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


def _validate_slug(slug: str) -> str:
    try:
        Dashboard(slug=slug).clean_fields(exclude={"title"})
    except ValidationError as error:
        raise IngestError(
            "dashboard",
            f"{slug!r} is not a valid slug of a dashboard. Use 1 to 100 letters, digits, hyphens and underscores.",
        ) from error
    return slug


def _validate_rendered_at(rendered_at: datetime) -> datetime:
    if rendered_at.utcoffset() is None:
        raise IngestError(
            "rendered_at",
            f"{rendered_at.isoformat()} has no time zone. Add one, for example {rendered_at.isoformat()}+00:00 or …Z.",
        )
    # Checked before the conversion to UTC, which would overflow for years 1 and 9999.
    if not is_plausible(rendered_at, timezone.now()):
        raise IngestError(
            "rendered_at",
            f"{rendered_at.isoformat()} is not between 1970 and one day from now. Check the date and the clock of "
            "the machine that rendered the report.",
        )
    return rendered_at.astimezone(UTC).replace(microsecond=0)


def _clean_filename(filename: str) -> str:
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(character if character.isprintable() else "_" for character in name)
    if not name or set(name) == {"."}:
        raise IngestError("filename", f"{filename!r} is not a file name. Use a name such as report.pdf.")
    if len(name.encode("utf-8", "replace")) > 255:
        raise IngestError("filename", f"The name {name[:40]}… is longer than 255 bytes. Shorten it.")
    return name


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Create a file for the block, and delete it if the block raises an exception.

    `_copy_and_hash` syncs the file and its folder to disk.
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


def _copy_and_hash(head: bytes, source: BinaryIO, target: BinaryIO) -> _Digests:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in chain([head], iter(partial(_read_full, source, _CHUNK), b"")):
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


def _read_full(source: BinaryIO, number: int) -> bytes:
    """Read `number` bytes, or fewer only at the end of the source, even if the source returns short reads."""
    try:
        found = source.read(number)
        while found and len(found) < number and (more := source.read(number - len(found))):
            found += more
        return found
    except OSError as error:
        raise IngestError("file", f"The file cannot be read: {error.strerror or error}.") from error


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
        message = "The local disk is full. Free disk space under DATA_DIR, then send the file again."
        return IngestError("file", message, Reason.NO_SPACE)
    message = f"Cannot write to the local store: {error.strerror}. Check the folder DATA_DIR."
    return IngestError("file", message, Reason.STORE)
