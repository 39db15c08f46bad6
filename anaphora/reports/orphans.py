"""Finds local copies and previews without a report, which killed processes leave behind.

The database is queried before the age of the file is checked, so a report that is being ingested is never an orphan.
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
"""Number of files per query."""


def find_orphans(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the files below `folder` that are named by an id without a report and have not changed since `before`.

    Links are neither followed nor yielded. Files whose name is not an id are ignored.
    """
    named = _named_by_id(folder)
    while files := list(islice(named, BATCH)):
        known = set(Report.objects.filter(pk__in=[pk for _, pk in files]).order_by().values_list("pk", flat=True))
        yield from (file for file, pk in files if pk not in known and _unchanged(file, before))


def find_unfinished(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the unfinished files (`.part`) below `folder` that have not changed since `before`."""
    yield from (file for file in _files(folder) if file.suffix == ".part" and _unchanged(file, before))


def _named_by_id(folder: Path) -> Iterator[tuple[Path, UUID]]:
    for file in _files(folder):
        try:
            yield file, UUID(file.name.partition(".")[0])
        except ValueError:
            continue


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder.resolve()):
        yield from (Path(parent, name) for name in names)


def _unchanged(file: Path, before: datetime) -> bool:
    try:
        facts = file.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_mtime < before.timestamp()
