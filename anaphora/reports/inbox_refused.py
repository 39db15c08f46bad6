"""Lists the files that the inbox refused, with reasons. Puts them back or deletes them.

The files are in INBOX_DIR/.rejected/<dashboard>/, or in a subfolder if two files have the same name. Names can be
invalid UTF-8. Links are never followed. Pages identify a file by a token that encodes its path as bytes.
"""

import os
import re
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from anaphora.foreign_text import clean_line
from anaphora.reports.inbox_folders import (
    list_entries,
    list_folders,
    list_names,
    open_folder,
    remove_empty_folders,
    rename_file,
)
from anaphora.reports.ingest import IngestError, validate_slug

REJECTED_FOLDER = ".rejected"
REASON_SUFFIX = ".reason.txt"

MAX_STEM_BYTES = 220
"""Number of bytes of the file name that the name of its reason file starts with. A name can have 255 bytes."""

_MAX_REASON_BYTES = 4096
"""Users who can write to the inbox can replace a reason file by a large one."""


class RefusedFileError(Exception):
    """The file cannot be put back or deleted. The message says why."""


@dataclass(frozen=True)
class RefusedFile:
    """A refused file, with names and reason as printable text."""

    token: str
    filename: str
    dashboard: str
    reason: str
    refused_at: datetime
    """The ctime of the file, which programs cannot set."""


def list_refused(limit: int) -> tuple[list[RefusedFile], int]:
    """Return up to `limit` refused files, the latest first, and the total number.

    Raises OSError if INBOX_DIR cannot be read.
    """
    found = [(facts.st_ctime, file, reasons) for file, facts, reasons in _refused_files()]
    found.sort(key=lambda each: each[0], reverse=True)
    return [
        RefusedFile(
            token=_token(file),
            filename=_display_name(file.name),
            dashboard=_display_name(file.relative_to(_rejected_folder()).parts[0]),
            reason=_read_reason(reasons),
            refused_at=datetime.fromtimestamp(ctime, UTC),
        )
        for ctime, file, reasons in found[:limit]
    ], len(found)


def count() -> int:
    """Return the number of refused files. Return 0 if INBOX_DIR is not set or cannot be read.

    Reads only names, because pages and alerts ask this often.
    """
    if not settings.INBOX_DIR:
        return 0
    number, top = 0, _rejected_folder()
    for dashboard in list_names(top)[1]:
        files, folders = list_names(top / dashboard)
        for names in [files, *(list_names(top / dashboard / each)[0] for each in folders)]:
            number += len(names) - len({reason for each in _reasons_by_file(names).values() for reason in each})
    return number


def put_back(token: str, dashboard: str = "") -> str:
    """Move a file back to the inbox, delete its reason file and return its name. Raises RefusedFileError.

    `dashboard` is the slug of the folder; by default, it is the folder from which the file came.
    """
    file = _path_of(token)
    try:
        slug = validate_slug(dashboard) if dashboard else ""
    except IngestError as error:
        raise RefusedFileError(str(error)) from error
    to = Path(str(settings.INBOX_DIR)) / (slug or file.relative_to(_rejected_folder()).parts[0]) / file.name
    try:
        with open_folder(file.parent) as folder:
            facts = os.stat(file.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode):
            raise RefusedFileError(
                f"{_display_name(file.name)} is a link or a folder. Remove it from the inbox manually."
            )
        if os.path.lexists(to):
            raise RefusedFileError(
                f"The inbox contains another file named {_display_name(file.name)}. Try again when it is ingested."
            )
        reasons = _exclusive_reasons(file)
        rename_file(file, to)
        _delete(*reasons)
    except OSError as error:
        raise _error(file, error) from error
    return _display_name(file.name)


def remove(token: str) -> str:
    """Delete a refused file and its reason file. Return its name. Raises RefusedFileError."""
    file = _path_of(token)
    try:
        reasons = _exclusive_reasons(file)
        with open_folder(file.parent) as folder:
            os.unlink(file.name, dir_fd=folder)  # pathlib has no unlink relative to a descriptor
        _delete(*reasons)
    except OSError as error:
        raise _error(file, error) from error
    return _display_name(file.name)


def reason_names(name: str, instant: int) -> list[str]:
    """Return the possible names of the reason file of a file. The first unused one is chosen."""
    return [f"{_stem(name)}{REASON_SUFFIX}", f"{_stem(name)}.{instant}{REASON_SUFFIX}"]


def _rejected_folder() -> Path:
    return Path(str(settings.INBOX_DIR)) / REJECTED_FOLDER


def _refused_files() -> list[tuple[Path, os.stat_result, list[Path]]]:
    """Return the refused files with their reason files. Raises OSError if INBOX_DIR cannot be read."""
    with open_folder(Path(str(settings.INBOX_DIR))):
        pass
    found = []
    for dashboard in list_folders(_rejected_folder()):
        for folder in [dashboard, *list_folders(dashboard)]:
            regular = [(path, facts) for path, facts in list_entries(folder) if stat.S_ISREG(facts.st_mode)]
            reasons = _reasons_by_file([path.name for path, _ in regular])
            others = {name for each in reasons.values() for name in each}
            found += [
                (path, facts, [folder / name for name in reasons.get(path.name, [])])
                for path, facts in regular
                if path.name not in others
            ]
    return found


def _reasons_by_file(names: list[str]) -> dict[str, list[str]]:
    """Return the reason files of each file in a folder. Files whose long names start alike can share a reason file."""
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(_stem(name), []).append(name)
    found: dict[str, list[str]] = {}
    for name in names:
        for stem in _stems_with_reason(name):
            for file in files.get(stem, []):
                if file != name:
                    found.setdefault(file, []).append(name)
    return found


def _stem(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:MAX_STEM_BYTES])


def _stems_with_reason(name: str) -> list[str]:
    """Return the possible stems of the file that a reason file belongs to, or [] if `name` is no reason file."""
    if not name.endswith(REASON_SUFFIX):
        return []
    stem = name.removesuffix(REASON_SUFFIX)
    before = re.sub(r"\.[0-9]{18,}\Z", "", stem)
    return [stem, before] if before != stem else [stem]


def _exclusive_reasons(file: Path) -> list[Path]:
    """Return the reason files of a file, or [] if another file shares them."""
    names, _ = list_names(file.parent)
    reasons = _reasons_by_file(names)
    own = set(reasons.get(file.name, []))
    others = {name for name in names if name != file.name and name not in own and own & set(reasons.get(name, []))}
    return [] if others else sorted(file.parent / name for name in own)


def _read_reason(reasons: list[Path]) -> str:
    for path in sorted(reasons, key=lambda each: len(each.name), reverse=True):
        try:
            with open_folder(path.parent) as folder:
                descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with open(descriptor, "rb") as source:  # noqa: PTH123  # opens a descriptor
                text = source.read(_MAX_REASON_BYTES).decode(errors="replace")
        except OSError:
            continue
        return clean_line(text.partition(": ")[2] or text)
    return "The reason file no longer exists."


def _delete(*paths: Path) -> None:
    for path in paths:
        with suppress(FileNotFoundError), open_folder(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)
    remove_empty_folders(_rejected_folder())


def _token(file: Path) -> str:
    return urlsafe_b64encode(os.fsencode(file.relative_to(_rejected_folder()))).decode()


def _path_of(token: str) -> Path:
    """Return the path that a token encodes, always below the folder of refused files. Raises RefusedFileError."""
    try:
        parts = os.fsdecode(urlsafe_b64decode(token)).split("/")
    except ValueError as error:
        raise RefusedFileError("This file does not exist.") from error
    if not 2 <= len(parts) <= 3 or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise RefusedFileError("This file does not exist.")
    return _rejected_folder().joinpath(*parts)


def _display_name(name: str) -> str:
    return clean_line(os.fsencode(name).decode(errors="backslashreplace"))


def _error(file: Path, error: OSError) -> RefusedFileError:
    if isinstance(error, FileNotFoundError):
        return RefusedFileError(f"{_display_name(file.name)} no longer exists.")
    return RefusedFileError(f"{_display_name(file.name)} cannot be moved or deleted: {error.strerror}.")
