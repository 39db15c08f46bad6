"""`ingest()` for one file and `Batch` for many: the only way in, for API, inbox, upload page and command.

The file is written to the local store while its digests are computed, so memory use does not depend on its size. The
report and its pending deliveries are then created in one transaction, after the file is synced to disk. On failure,
neither a row nor a file remains.
"""

import errno
import hashlib
import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from anaphora.activity import Action, record_each
from anaphora.bulk_rows import insert_rows
from anaphora.reports import content_types
from anaphora.reports.group_commit import GroupCommit
from anaphora.reports.models import Dashboard, Report
from anaphora.reports.signals import report_ingested
from anaphora.reports.timestamps import is_plausible

logger = logging.getLogger(__name__)

_CHUNK = 1024 * 1024

_pool = ThreadPoolExecutor(8)
"""Syncs files at the same time: file systems write such requests together. No thread is started for a single file."""


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
class _Added:
    """A report whose file was copied, and the context of the caller: another thread may save it."""

    report: Report
    target: BinaryIO
    folder: Path
    context: Context


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
    with Batch() as batch:
        batch.add(source=source, filename=filename, dashboard=dashboard, rendered_at=rendered_at)
        return batch.commit()[0]


class Batch:
    """Ingests several files with one transaction, and syncs them to disk together. Use it as a context manager.

    `add()` copies a file into the local store, `commit()` ingests all that were added since the last commit. What was
    not committed at the end leaves nothing behind. Each file is synced while the next ones are copied. Batches that
    threads commit at the same time share a transaction.
    """

    MAX_FILES, MAX_BYTES = 64, 64 * 1024**2

    def __init__(self) -> None:
        self._added: list[_Added] = []
        self._syncs: list[Future[None]] = []

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, *exception: object) -> None:
        self._discard()

    @property
    def full(self) -> bool:
        """Whether to commit before more is added: files stay open, and their results wait."""
        size = sum(each.report.size for each in self._added)
        return len(self._added) >= self.MAX_FILES or size >= self.MAX_BYTES

    def add(self, *, source: BinaryIO, filename: str, dashboard: str, rendered_at: datetime) -> None:
        """Copy a file. The parameters are those of `ingest()`. Raises IngestError; the others are not affected."""
        _commits.announce(self)
        report = Report(filename=_clean_filename(filename), rendered_at=_validate_rendered_at(rendered_at))
        report.dashboard = Dashboard(slug=validate_slug(dashboard))
        check_space()
        head = _read_full(source, content_types.HEAD_SIZE)
        report.content_type = _check_content_type(head, report.filename)
        report.file.name = report.local_name
        path = report.local_path
        target = _new_file(path)
        try:
            digests = _copy_and_hash(head, source, target)
        except BaseException:
            _remove(report, target)
            raise
        report.size, report.sha256, report.md5 = digests.size, digests.sha256, digests.md5
        if self._added:
            self._syncs.append(_pool.submit(_sync_file, self._added[-1].target))
        self._added.append(_Added(report, target, path.parent, copy_context()))

    def commit(self) -> list[Ingested]:
        """Ingest what was added; return the results in this order. All of it is on disk and in the database then.

        Raises IngestError if the local store fails, or DatabaseError; nothing that was added is ingested then.
        """
        if not self._added:
            return []
        try:
            self._sync()
            # The transaction of a caller must not include the reports of other threads.
            found = _save(self._added) if connection.in_atomic_block else _commits.save(self, self._added)
        except BaseException as error:
            if isinstance(error, OperationalError | InterfaceError):
                self._keep_saved()
            self._discard()
            raise
        self._added, self._syncs = [], []
        return found

    def _sync(self) -> None:
        """Wait until all files and their folders are on disk. Raises IngestError."""
        try:
            _sync_file(self._added[-1].target)
            for sync in self._syncs:
                sync.result()
            for folder in {each.folder for each in self._added}:
                _sync_folder(folder)
        except OSError as error:
            raise _local_store_error(error) from error

    def _keep_saved(self) -> None:
        """Keep the files of reports that may have been saved: the connection may have failed after the commit."""
        keys = {each.report.pk for each in self._added}
        try:
            keys = set(Report.objects.filter(pk__in=keys).values_list("pk", flat=True))
        except Error:
            logger.exception("Files that may belong to saved reports stay; housekeeping removes those that do not")
        self._added = [each for each in self._added if each.report.pk not in keys]

    def _discard(self) -> None:
        _commits.withdraw(self)
        wait(self._syncs)
        for each in self._added:
            _remove(each.report, each.target)
        self._added, self._syncs = [], []


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


def _save(added: list[_Added]) -> list[Ingested]:
    reports = [each.report for each in added]
    with transaction.atomic():
        _set_dashboards(reports)
        # In the same order by all processes, which wait for each other's rows.
        in_order = sorted(reports, key=lambda report: (report.dashboard_id, report.rendered_at, report.sha256))
        created = _insert(in_order)
        if new := [each for each in added if each.report.pk in created]:
            contexts = [each.context for each in new]
            record_each(Action.UPLOADED, [each.report for each in new], contexts, details_of=_describe_upload)
            report_ingested.send(sender=Report, reports=[each.report for each in new])
        return [Ingested(each.report, created=True) if each.report.pk in created else _known(each) for each in added]


_commits = GroupCommit(_save)


def _insert(reports: list[Report]) -> set[UUID]:
    """Create the rows by one statement; return the keys of those that did not exist."""
    fields = Report._meta.concrete_fields
    created = insert_rows(Report, [{field.name: field.value_from_object(row) for field in fields} for row in reports])
    for report in reports:
        report._state.adding, report._state.db = False, connection.alias
    return created


def _set_dashboards(reports: list[Report]) -> None:
    slugs = sorted({report.dashboard.slug for report in reports})
    names = ["id", "slug", "title", "keep_local_days"]
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(slugs))
        cursor.execute(f"SELECT {', '.join(names)} FROM reports_dashboard WHERE slug IN ({marks})", slugs)  # noqa: S608
        rows = {row[1]: Dashboard.from_db(connection.alias, names, row) for row in cursor.fetchall()}
    for slug in slugs:
        if slug not in rows:
            rows[slug], _ = Dashboard.objects.get_or_create(slug=slug)
    for report in reports:
        report.dashboard = rows[report.dashboard.slug]


def _describe_upload(report: Report) -> dict[str, Any]:
    return {"file": report.filename, "size": report.size, "sha256": report.sha256}


def _known(added: _Added) -> Ingested:
    """Return the report with the same dashboard, instant and content, and give it the local copy if it has none."""
    report = added.report
    known = Report.objects.select_related("dashboard").get(
        dashboard=report.dashboard, rendered_at=report.rendered_at, sha256=report.sha256
    )
    if known.pk == report.pk:  # saved by an earlier attempt whose connection failed after the commit
        return Ingested(known, created=True)
    if known.local_path.exists():
        report.local_path.unlink(missing_ok=True)
    else:
        _move(report.local_path, known.local_path)
    if not known.file:
        Report.objects.filter(pk=known.pk).update(file=known.local_name)
    record_each(Action.UPLOADED_AGAIN, [known], [added.context], file=report.filename)
    return Ingested(known, created=False)


def validate_slug(slug: str) -> str:
    """Return the slug of a dashboard, which need not exist. Raises IngestError if it is not valid."""
    try:
        Dashboard._meta.get_field("slug").clean(slug, None)
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


def _new_file(path: Path) -> BinaryIO:
    try:
        try:
            return path.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
    except OSError as error:
        raise _local_store_error(error) from error


def _remove(report: Report, target: BinaryIO) -> None:
    with suppress(OSError):  # what could not be written when it was closed
        target.close()
    report.local_path.unlink(missing_ok=True)


def _copy_and_hash(head: bytes, source: BinaryIO, target: BinaryIO) -> _Digests:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    first = head + _read_full(source, _CHUNK - len(head))  # together, because each step costs more than this copy
    for chunk in chain([first], iter(partial(_read_full, source, _CHUNK), b"")):
        size += len(chunk)
        check_size(size)
        sha256.update(chunk)
        md5.update(chunk)
        try:
            target.write(chunk)
        except OSError as error:
            raise _local_store_error(error) from error
    return _Digests(size, sha256.hexdigest(), md5.hexdigest())


def _sync_file(target: BinaryIO) -> None:
    """Sync a file to disk and close it."""
    with target:
        target.flush()
        os.fsync(target.fileno())


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
