"""The inbox: `INBOX_DIR/<dashboard>/<file>`, for renderers that only write files.

    INBOX_DIR/sales/2026-03-01T0600Z.pdf     put there by a renderer
    INBOX_DIR/.taking/…/sales/…              being taken in: whoever moves a file there first has it to itself
    INBOX_DIR/.taken/sales/…                 taken in, kept for INBOX_KEEP_DAYS
    INBOX_DIR/.rejected/sales/…              refused, each with a `.reason.txt` beside it: see `inbox_refused`

A file counts as complete when nobody has touched it for INBOX_SETTLE_SECONDS. Names that end with `.part` or `.tmp`,
and those that rsync writes under, are left alone: a renderer may write under such a name and rename. Taking in is
idempotent, so a file whose taker died is taken again from `.taking`, and stays one report.
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

from anaphora.reports.inbox_folders import entries, folders, move, opened, remove_empty, rename
from anaphora.reports.inbox_refused import REJECTED, reason_names
from anaphora.reports.ingest import IngestError, ingest
from anaphora.reports.timestamps import moment_in

logger = logging.getLogger(__name__)

TAKING, TAKEN = ".taking", ".taken"

TAKER_IS_DEAD = timedelta(hours=1)
"""After so long a file in `.taking` is taken by somebody else."""

CLOCKS_DIFFER = timedelta(seconds=60)
"""By which clocks of two machines may differ. A file that was touched later yet was touched by a wrong clock."""

_UNFINISHED = re.compile(r".*\.(part|tmp|filepart|crdownload)|\..+\.[A-Za-z0-9]{6}", re.DOTALL)
"""Names under which files are being written; the last is rsync's, `.name.ending.` and six more characters."""


@dataclass
class Scan:
    """What one look into the inbox did."""

    taken: int = 0
    rejected: int = 0
    unfinished: bool = False
    """Whether it stopped for want of time, or of space, with files left."""


def scan(*, seconds: float = float("inf")) -> Scan:
    """Take in what is complete, for so long; return what was done. Any number may run at the same time."""
    result, end = Scan(), time.monotonic() + seconds
    root = Path(str(settings.INBOX_DIR))
    if not _own_folders_are_folders(root):
        return result
    ours = root / TAKING / uuid.uuid4().hex
    for file in _complete(root):
        if time.monotonic() > end:
            result.unfinished = True
            break
        taking = _claim(file, ours)
        if taking is None:
            continue
        try:
            _take(taking)
            _put_away(root, taking)
            result.taken += 1
        except FileNotFoundError:
            if taking.exists():
                raise
            # We were so slow that another took us for dead, and the file over.
        except (IngestError, DatabaseError) as error:
            if isinstance(error, DatabaseError) or error.reason.passes:
                # Our own trouble, such as a full disk: it stays where it was, and nothing else would fare better.
                move(taking, root / file.parent.name / file.name)
                logger.warning("The inbox waits: %s", error)
                result.unfinished = True
                break
            result.rejected += _rejected(root, taking, error)
        except OSError as refused:  # of the report's way out: it is in
            _leave(taking, refused)
    remove_empty(root / TAKING)
    _forget_old(root / TAKEN)
    return result


def _own_folders_are_folders(root: Path) -> bool:
    for name in (TAKING, TAKEN, REJECTED):
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR((root / name).lstat().st_mode):
                logger.error("The inbox is not read: %s is a link or a file. Remove it.", root / name)
                return False
    return True


def _complete(root: Path) -> Iterator[Path]:
    """Yield the files that nobody is writing any more, those of dead takers first, one folder at a time."""
    now = time.time()
    given_up = [folder for taker in folders(root / TAKING) for folder in folders(taker)]
    for folder in [*given_up, *folders(root)]:
        left = TAKER_IS_DEAD.total_seconds() if folder in given_up else settings.INBOX_SETTLE_SECONDS
        for file, found in entries(folder):
            if _UNFINISHED.fullmatch(file.name) or not stat.S_ISREG(found.st_mode):
                continue
            # Of the two times the latter also changes by a rename, and can't be set by whoever copies.
            touched = max(found.st_mtime, found.st_ctime)
            if touched > now + CLOCKS_DIFFER.total_seconds():
                _touch(file, found)  # else it would wait until that time comes
            elif now - touched >= left:
                yield file


def _touch(file: Path, found: os.stat_result) -> None:
    """Let a file that was touched in the future count as touched now: whoever still writes touches it again.

    When it was written stays, unless that is to come: it may be the report's only time.
    """
    written = min(found.st_mtime, time.time())
    logger.warning("The inbox has a file from the future, %r: the clock that wrote it is, or was, ahead", str(file))
    with suppress(OSError), opened(file.parent) as folder:
        os.utime(file.name, (found.st_atime, written), dir_fd=folder, follow_symlinks=False)


def _claim(file: Path, ours: Path) -> Path | None:
    """Move a file to where it is ours alone; return where, None if somebody else was quicker or it can't be moved."""
    try:
        return rename(file, ours / file.parent.name / file.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("The inbox passes over %r: %s", str(file), error.strerror)
        return None


def _take(file: Path) -> None:
    try:
        with opened(file.parent) as folder:
            # Not blocking, as a pipe in the file's place would for ever.
            descriptor = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(descriptor, "rb") as source:  # noqa: PTH123  # of a descriptor
            facts = os.fstat(source.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise IngestError("file", "It is no file.")
            written = datetime.fromtimestamp(facts.st_mtime, UTC)
            ingest(
                source=source,
                filename=file.name,
                dashboard=file.parent.name,
                rendered_at=moment_in(file.name, ZoneInfo(settings.TIME_ZONE)) or written,
            )
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IngestError("file", f"The file can't be read: {error.strerror}.") from error


def _rejected(root: Path, file: Path, error: IngestError) -> bool:
    try:
        _reject(root, file, error)
    except OSError as refused:
        _leave(file, refused)
        return False
    return True


def _reject(root: Path, file: Path, error: IngestError) -> None:
    target = move(file, root / REJECTED / file.parent.name / file.name)
    reason = f"{error.field}: {error}\n".encode(errors="backslashreplace")
    with opened(target.parent) as folder:
        for name in reason_names(target.name, time.time_ns()):
            # What is there already is left alone: it may be a link to something else.
            with suppress(FileExistsError):
                created = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
                with open(created, "wb") as text:  # noqa: PTH123  # of a descriptor
                    text.write(reason)
                break
    logger.warning("The inbox refused %r of %r: %s", file.name, file.parent.name, error)


def _leave(file: Path, error: OSError) -> None:
    """Leave a file where it was taken: a link or a file stands in the place of a folder of ours."""
    logger.error("The inbox can't put %r away: %s. Remove what is in the folder's place.", str(file), error)


def _put_away(root: Path, file: Path) -> None:
    if not settings.INBOX_KEEP_DAYS:
        with opened(file.parent) as folder:
            os.unlink(file.name, dir_fd=folder)  # Path has no unlink below a descriptor
        return
    kept = move(file, root / TAKEN / file.parent.name / file.name)
    with opened(kept.parent) as folder:
        os.utime(kept.name, dir_fd=folder, follow_symlinks=False)


def _forget_old(taken: Path) -> None:
    """Remove what was taken in long enough ago."""
    oldest = time.time() - timedelta(days=settings.INBOX_KEEP_DAYS).total_seconds()
    try:
        with opened(taken) as top:
            for _, _, names, folder in os.fwalk(".", dir_fd=top):
                for name in names:
                    with suppress(FileNotFoundError):  # another taker removed it
                        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < oldest:
                            os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    remove_empty(taken)
