"""Files of the local store, and previews, that belong to no report: a process was killed while it took one in.

The database is asked first and the file's age last, so a report that is being taken in is never an orphan.
"""

import os
import stat
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from uuid import UUID

from anaphora.reports.models import Report

BATCH = 500
"""Files for which the database is asked at once."""


def orphans(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the files below `folder` that bear the id of no report, and that nobody has written to since `before`.

    Links are neither followed nor yielded, nor are files whose name is no id.
    """
    named = _named_by_id(folder)
    while files := list(islice(named, BATCH)):
        known = set(Report.objects.filter(pk__in=[pk for _, pk in files]).order_by().values_list("pk", flat=True))
        yield from (file for file, pk in files if pk not in known and _unwritten(file, before))


def interrupted(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the unfinished files below `folder`, `.part`, that nobody has written to since `before`."""
    yield from (file for file in _files(folder) if file.suffix == ".part" and _unwritten(file, before))


def _named_by_id(folder: Path) -> Iterator[tuple[Path, UUID]]:
    for file in _files(folder):
        try:
            yield file, UUID(file.name.partition(".")[0])
        except ValueError:
            continue


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder.resolve()):
        yield from (Path(parent, name) for name in names)


def _unwritten(file: Path, before: datetime) -> bool:
    try:
        facts = file.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_mtime < before.timestamp()
