"""The inbox: `INBOX_DIR/<dashboard>/<file>`, for renderers that only write files.

    INBOX_DIR/sales/2026-03-01T0600Z.pdf     put there by a renderer
    INBOX_DIR/.taking/…/sales/…              being taken in: whoever moves a file there first has it to itself
    INBOX_DIR/.taken/sales/…                 taken in, kept for INBOX_KEEP_DAYS
    INBOX_DIR/.rejected/sales/…              refused, each with a `.reason.txt` beside it

A file counts as complete when nobody has touched it for INBOX_SETTLE_SECONDS. Names that end with `.part` or `.tmp`,
and those that rsync writes under, are left alone: a renderer may write under such a name and rename. Taking in is
idempotent, so a file whose taker died is taken again from `.taking`, and stays one report.
"""

import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from django.conf import settings

from anaphora.reports.ingest import IngestError, ingest
from anaphora.reports.moments import moment_in

logger = logging.getLogger(__name__)

TAKING, TAKEN, REJECTED = ".taking", ".taken", ".rejected"

TAKER_IS_DEAD = timedelta(hours=1)
"""After so long a file in `.taking` is taken by somebody else."""

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
        except IngestError as error:
            if error.reason.passes:
                # Our own trouble, such as a full disk: it stays where it was, and nothing else would fare better.
                _move(taking, root / file.parent.name / file.name)
                logger.warning("The inbox waits: %s", error)
                result.unfinished = True
                break
            _reject(root, taking, error)
            result.rejected += 1
    _remove_empty(root / TAKING)
    _forget_old(root / TAKEN)
    return result


def _complete(root: Path) -> Iterator[Path]:
    """Yield the files that nobody is writing any more, those of dead takers first, one folder at a time."""
    now = time.time()
    given_up = [folder for taker in _folders(root / TAKING) for folder in _folders(taker)]
    for folder in [*given_up, *_folders(root)]:
        left = TAKER_IS_DEAD.total_seconds() if folder in given_up else settings.INBOX_SETTLE_SECONDS
        for entry in _entries(folder):
            if _UNFINISHED.fullmatch(entry.name):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
                regular = entry.is_file(follow_symlinks=False)
            except OSError:
                continue  # somebody else has it
            # Of the two times the latter also changes by a rename, and can't be set by whoever copies.
            if regular and now - max(found.st_mtime, found.st_ctime) >= left:
                yield Path(entry.path)


def _folders(root: Path) -> list[Path]:
    # A link would lead whoever may write here to what only we may read.
    folders = (each for each in _entries(root) if each.is_dir(follow_symlinks=False))
    return sorted(Path(each.path) for each in folders if not each.name.startswith("."))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder; nothing if it isn't there, as when another taker's tidying removed it."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _claim(file: Path, ours: Path) -> Path | None:
    """Move a file to where it is ours alone; return where, None if somebody else was quicker."""
    try:
        return _rename(file, ours / file.parent.name / file.name)
    except FileNotFoundError:
        return None


def _take(file: Path) -> None:
    try:
        with open(file, "rb", opener=_no_link) as source:  # Path.open() takes no opener
            written = datetime.fromtimestamp(os.fstat(source.fileno()).st_mtime, UTC)
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


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _reject(root: Path, file: Path, error: IngestError) -> None:
    target = _move(file, root / REJECTED / file.parent.name / file.name)
    # Names have 255 bytes at most.
    reason = target.with_name(target.name.encode()[:240].decode(errors="ignore") + ".reason.txt")
    reason.write_text(f"{error.field}: {error}\n")
    logger.warning("The inbox refused %s/%s: %s", file.parent.name, file.name, error)


def _put_away(root: Path, file: Path) -> None:
    if settings.INBOX_KEEP_DAYS:
        os.utime(_move(file, root / TAKEN / file.parent.name / file.name))
    else:
        file.unlink()


def _move(file: Path, to: Path) -> Path:
    """Move a file, into a folder of its own if there is one of that name already; return where it is now."""
    if to.exists():
        to = to.parent / str(time.time_ns()) / to.name
    return _rename(file, to)


def _rename(file: Path, to: Path) -> Path:
    """Give a file a new name; its folder is made, again if another taker's tidying removes it before it is filled.

    Raises FileNotFoundError if the file is gone.
    """
    while True:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            return file.rename(to)
        except FileNotFoundError:
            if not file.exists():
                raise


def _forget_old(taken: Path) -> None:
    """Remove what was taken in long enough ago."""
    oldest = time.time() - timedelta(days=settings.INBOX_KEEP_DAYS).total_seconds()
    for folder, _, names in os.walk(taken):
        for name in names:
            with suppress(FileNotFoundError):  # another taker removed it
                if (file := Path(folder, name)).stat().st_mtime < oldest:
                    file.unlink()
    _remove_empty(taken)


def _remove_empty(folder: Path) -> None:
    """Remove what is empty in a folder, and it; whoever puts something in at the same moment wins."""
    for each in _folders(folder):
        _remove_empty(each)
    with suppress(OSError):
        folder.rmdir()
