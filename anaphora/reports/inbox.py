"""The inbox `INBOX_DIR/<dashboard>/<file>`, for renderers that can only write files.

    INBOX_DIR/sales/2026-03-01T0600Z.pdf     written by a renderer
    INBOX_DIR/.taking/…/sales/…              claimed: the process that moves a file here ingests it
    INBOX_DIR/.taken/sales/…                 ingested, kept for INBOX_KEEP_DAYS
    INBOX_DIR/.rejected/sales/…              refused, each with a `.reason.txt` file: see `inbox_refused`

A file is complete when it has not changed for INBOX_SETTLE_SECONDS. Files whose names end with `.part` or `.tmp`, and
temporary files of rsync, are ignored, so that a renderer can write under such a name and then rename the file. Ingest
is idempotent: a file left in `.taking` by a killed process is ingested again and remains one report.
"""

import logging
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import DatabaseError

from anaphora.reports.inbox_folders import (
    folders_kept_open,
    list_entries,
    list_folders,
    move_file,
    open_folder,
    remove_empty_folders,
    rename_file,
)
from anaphora.reports.inbox_refused import REJECTED_FOLDER, reason_names
from anaphora.reports.ingest import Batch, IngestError
from anaphora.reports.timestamps import instant_in_filename

logger = logging.getLogger(__name__)

TAKING_FOLDER, TAKEN_FOLDER = ".taking", ".taken"

CLAIM_TIMEOUT = timedelta(hours=1)
"""After this time another process may claim a file in `.taking`."""

CLOCK_TOLERANCE = timedelta(seconds=60)
"""Maximum clock difference between two machines. A later timestamp was set by a wrong clock."""

_UNFINISHED = re.compile(r".*\.(part|tmp|filepart|crdownload)|\..+\.[A-Za-z0-9]{6}", re.DOTALL)
"""Names of unfinished files. The last pattern is used by rsync: `.name.extension.` and six random characters."""


@dataclass
class ScanResult:
    """The result of one scan of the inbox."""

    ingested: int = 0
    rejected: int = 0
    unfinished: bool = False
    """Whether files are left because the time or the disk space ran out."""


def scan(*, seconds: float = float("inf")) -> ScanResult:
    """Ingest the complete files for up to `seconds`. Several scans can run at the same time."""
    result, end = ScanResult(), time.monotonic() + seconds
    root = Path(str(settings.INBOX_DIR))
    if not _working_folders_are_valid(root):
        return result
    ours = root / TAKING_FOLDER / uuid.uuid4().hex
    with Batch() as batch, folders_kept_open():
        taken: list[Path] = []
        for file in _complete_files(root):
            if time.monotonic() > end:
                result.unfinished = True
                break
            if batch.full and not _commit(root, batch, taken, result):
                break
            if (taking := _claim(file, ours)) and not _take(root, batch, taking, taken, result):
                break
        if taken:
            _commit(root, batch, taken, result)
    remove_empty_folders(root / TAKING_FOLDER)
    _delete_expired(root / TAKEN_FOLDER)
    return result


def _take(root: Path, batch: Batch, taking: Path, taken: list[Path], result: ScanResult) -> bool:
    """Add a claimed file to the batch and to `taken`; return whether to continue with other files."""
    try:
        _add(batch, taking)
        taken.append(taking)
    except FileNotFoundError:
        if taking.exists():
            raise
        # This process was so slow that another one claimed the file after CLAIM_TIMEOUT.
    except IngestError as error:
        if error.reason.temporary:
            _give_back(root, [taking], error, result)
            return False
        result.rejected += _try_reject(root, taking, error)
    return True


def _commit(root: Path, batch: Batch, taken: list[Path], result: ScanResult) -> bool:
    """Ingest the batch and move its files to `.taken`; return whether to continue with other files."""
    files = taken[:]
    taken.clear()
    try:
        batch.commit()
    except (IngestError, DatabaseError) as error:
        _give_back(root, files, error, result)
        return False
    for file in files:
        try:
            _keep_or_delete(root, file)
            result.ingested += 1
        except FileNotFoundError:
            if file.exists():
                raise
            # Another process claimed it, as in _take(). Ingesting it twice still creates one report.
        except OSError as error:  # the report is ingested, only its file cannot be moved
            _log_blocked(file, error)
    return True


def _give_back(root: Path, files: list[Path], error: Exception, result: ScanResult) -> None:
    """Put files back after a temporary problem of this system, such as a full disk, which affects other files too."""
    for file in files:
        with suppress(FileNotFoundError):
            move_file(file, root / file.parent.name / file.name)
    logger.warning("The inbox scan stopped: %s", error)
    result.unfinished = True


def _working_folders_are_valid(root: Path) -> bool:
    for name in (TAKING_FOLDER, TAKEN_FOLDER, REJECTED_FOLDER):
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR((root / name).lstat().st_mode):
                logger.error("The inbox is not read, because %s is a link or a file. Remove it.", root / name)
                return False
    return True


def _complete_files(root: Path) -> Iterator[Path]:
    """Yield the complete files, one folder at a time, starting with files left in `.taking` by killed processes."""
    now = time.time()
    abandoned = [folder for claim in list_folders(root / TAKING_FOLDER) for folder in list_folders(claim)]
    for folder in [*abandoned, *list_folders(root)]:
        min_age = CLAIM_TIMEOUT.total_seconds() if folder in abandoned else settings.INBOX_SETTLE_SECONDS
        for file, found, changed in _finished_files(folder):
            if changed > now + CLOCK_TOLERANCE.total_seconds():
                _reset_future_mtime(file, found)  # otherwise the file would wait until that time
            elif now - changed >= min_age:
                yield file


def _finished_files(folder: Path) -> Iterator[tuple[Path, os.stat_result, float]]:
    """Yield the regular files, except those with the name of an unfinished file, and when each was last changed."""
    for file, found in list_entries(folder):
        if stat.S_ISREG(found.st_mode) and not _UNFINISHED.fullmatch(file.name):
            # ctime also changes when a file is renamed, and a copy program cannot set it.
            yield file, found, max(found.st_mtime, found.st_ctime)


def count_misplaced() -> int:
    """Return the number of complete files directly in INBOX_DIR, which belong to no dashboard and are not ingested.

    Hidden files are not counted. Returns 0 if INBOX_DIR is not set or cannot be read.
    """
    if not settings.INBOX_DIR:
        return 0
    complete = time.time() - settings.INBOX_SETTLE_SECONDS
    files = _finished_files(Path(settings.INBOX_DIR))
    return sum(not file.name.startswith(".") and changed <= complete for file, _, changed in files)


def _reset_future_mtime(file: Path, found: os.stat_result) -> None:
    """Reset timestamps in the future, so that the file counts as changed now.

    A modification time in the past is kept, because it can be the only source of `rendered_at`.
    """
    written = min(found.st_mtime, time.time())
    logger.warning(
        "The inbox file %r has a timestamp in the future. Check the clock of the machine that wrote it.", str(file)
    )
    with suppress(OSError), open_folder(file.parent) as folder:
        os.utime(file.name, (found.st_atime, written), dir_fd=folder, follow_symlinks=False)


def _claim(file: Path, ours: Path) -> Path | None:
    """Move a file to this process's folder. Return the new path, or None if it is gone or cannot be moved."""
    try:
        return rename_file(file, ours / file.parent.name / file.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("The inbox skipped %r: %s", str(file), error.strerror)
        return None


def _add(batch: Batch, file: Path) -> None:
    try:
        with open_folder(file.parent) as folder:
            # Non-blocking, because opening a named pipe would block forever.
            descriptor = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(descriptor, "rb") as source:  # noqa: PTH123  # opens a descriptor
            facts = os.fstat(source.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise IngestError("file", "This is not a regular file.")
            written = datetime.fromtimestamp(facts.st_mtime, UTC)
            batch.add(
                source=source,
                filename=file.name,
                dashboard=file.parent.name,
                rendered_at=instant_in_filename(file.name, ZoneInfo(settings.TIME_ZONE)) or written,
            )
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IngestError("file", f"The file cannot be read: {error.strerror}.") from error


def _try_reject(root: Path, file: Path, error: IngestError) -> bool:
    try:
        _reject(root, file, error)
    except OSError as move_error:
        _log_blocked(file, move_error)
        return False
    return True


def _reject(root: Path, file: Path, error: IngestError) -> None:
    target = move_file(file, root / REJECTED_FOLDER / file.parent.name / file.name)
    reason = f"{error.field}: {error}\n".encode(errors="backslashreplace")
    with open_folder(target.parent) as folder:
        for name in reason_names(target.name, time.time_ns()):
            # An existing file is not overwritten, because it can be a link.
            with suppress(FileExistsError):
                created = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
                with open(created, "wb") as text:  # noqa: PTH123  # opens a descriptor
                    text.write(reason)
                break
    logger.warning("The inbox refused %r of %r: %s", file.name, file.parent.name, error)


def _log_blocked(file: Path, error: OSError) -> None:
    """Log that a file stays in `.taking`, because a link or a file blocks the destination folder."""
    logger.error(
        "The inbox cannot move %r: %s. Remove the link or file that blocks the destination folder.", str(file), error
    )


def _keep_or_delete(root: Path, file: Path) -> None:
    if not settings.INBOX_KEEP_DAYS:
        with open_folder(file.parent) as folder:
            os.unlink(file.name, dir_fd=folder)  # pathlib has no unlink relative to a descriptor
        return
    kept = move_file(file, root / TAKEN_FOLDER / file.parent.name / file.name)
    with open_folder(kept.parent) as folder:
        os.utime(kept.name, dir_fd=folder, follow_symlinks=False)


def _delete_expired(taken: Path) -> None:
    """Delete ingested files older than INBOX_KEEP_DAYS."""
    oldest = time.time() - timedelta(days=settings.INBOX_KEEP_DAYS).total_seconds()
    try:
        with open_folder(taken) as top:
            for _, _, names, folder in os.fwalk(".", dir_fd=top):
                for name in names:
                    with suppress(FileNotFoundError):  # another process deleted it
                        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < oldest:
                            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    remove_empty_folders(taken)
