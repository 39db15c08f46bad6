"""The files that the inbox refused: to be listed with their reasons, put back or removed.

They lie in INBOX_DIR/.rejected/<dashboard>/, or in one more folder below where two have the same name. No name need be
UTF-8, and no link is followed. A file is known to pages by its token, which holds its name as bytes.
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

from anaphora.foreign_text import words
from anaphora.reports.inbox_folders import entries, folders, opened, remove_empty, rename

REJECTED = ".rejected"
REASON = ".reason.txt"

LONGEST_STEM = 220
"""Bytes of a file's name that its reason file's name begins with. Names have 255 bytes at most."""

_LONGEST_REASON = 4096
"""Bytes. Whoever may write to the inbox may have put something else in a reason file's place."""


class NotPossible(Exception):  # noqa: N818  # of a file, it is a state
    """The file can't be put back or removed; the message says why."""


@dataclass(frozen=True)
class Refused:
    """A refused file; names and reason in words, fit to be shown."""

    token: str
    filename: str
    dashboard: str
    reason: str
    refused_at: datetime
    """When it was moved there, by the file's time of change, which nobody can set."""


def listed(limit: int) -> tuple[list[Refused], int]:
    """Return the files refused last, up to `limit` of them, and how many there are.

    Raises OSError if INBOX_DIR can't be read.
    """
    found = [(facts.st_ctime, file, reasons) for file, facts, reasons in _files()]
    found.sort(key=lambda each: each[0], reverse=True)
    return [
        Refused(
            token=_token(file),
            filename=_shown(file.name),
            dashboard=_shown(file.relative_to(_top()).parts[0]),
            reason=_reason(reasons),
            refused_at=datetime.fromtimestamp(when, UTC),
        )
        for when, file, reasons in found[:limit]
    ], len(found)


def count() -> int:
    """Return how many files were refused; 0 if INBOX_DIR isn't set or can't be read."""
    if not settings.INBOX_DIR:
        return 0
    try:
        return len(_files())
    except OSError:
        return 0


def put_back(token: str) -> str:
    """Put a file back to where the inbox takes it from, and remove its reason; return its name. Raises NotPossible."""
    file = _file(token)
    to = Path(str(settings.INBOX_DIR)) / file.relative_to(_top()).parts[0] / file.name
    try:
        with opened(file.parent) as folder:
            facts = os.stat(file.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode):
            raise NotPossible(f"{_shown(file.name)} is a link or a folder. Remove it from the inbox by hand.")
        if os.path.lexists(to):
            raise NotPossible(
                f"The inbox has another file named {_shown(file.name)} at present. Try again when it has been taken."
            )
        reasons = _own_reasons(file)
        rename(file, to)
        _unlink(*reasons)
    except OSError as error:
        raise _not_possible(file, error) from error
    return _shown(file.name)


def remove(token: str) -> str:
    """Remove a refused file with its reason; return its name. Raises NotPossible."""
    file = _file(token)
    try:
        reasons = _own_reasons(file)
        with opened(file.parent) as folder:
            os.unlink(file.name, dir_fd=folder)  # Path has no unlink below a descriptor
        _unlink(*reasons)
    except OSError as error:
        raise _not_possible(file, error) from error
    return _shown(file.name)


def reason_names(name: str, instant: int) -> list[str]:
    """Return the names that the reason of a file may have, of which it gets the first that is free."""
    return [f"{_stem(name)}{REASON}", f"{_stem(name)}.{instant}{REASON}"]


_Found = tuple[Path, os.stat_result]


def _top() -> Path:
    return Path(str(settings.INBOX_DIR)) / REJECTED


def _files() -> list[tuple[Path, os.stat_result, list[Path]]]:
    """Return the refused files, each with its reason files. Raises OSError if INBOX_DIR can't be read."""
    with opened(Path(str(settings.INBOX_DIR))):
        pass
    found = []
    for dashboard in folders(_top()):
        for folder in [dashboard, *folders(dashboard)]:
            there = [(path, facts) for path, facts in entries(folder) if stat.S_ISREG(facts.st_mode)]
            reasons = _by_file(there)
            others = {path for each in reasons.values() for path in each}
            found += [(path, facts, reasons.get(path, [])) for path, facts in there if path not in others]
    return found


def _by_file(there: list[_Found]) -> dict[Path, list[Path]]:
    """Return the reason files in a folder by the files whose they may be. Names that begin alike may share them."""
    files: dict[str, list[Path]] = {}
    for path, _ in there:
        files.setdefault(_stem(path.name), []).append(path)
    found: dict[Path, list[Path]] = {}
    for path, _ in there:
        for stem in _stems_of_reason(path.name):
            for file in files.get(stem, []):
                if file != path:
                    found.setdefault(file, []).append(path)
    return found


def _stem(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:LONGEST_STEM])


def _stems_of_reason(name: str) -> list[str]:
    """Return the stems of the files whose reason a file of this name may be; none if it is no reason file."""
    if not name.endswith(REASON):
        return []
    stem = name.removesuffix(REASON)
    before = re.sub(r"\.[0-9]{18,}\Z", "", stem)
    return [stem, before] if before != stem else [stem]


def _own_reasons(file: Path) -> list[Path]:
    """Return the reason files that go with a file: none while another file shares them."""
    there = [(path, facts) for path, facts in entries(file.parent) if stat.S_ISREG(facts.st_mode)]
    reasons = _by_file(there)
    own = set(reasons.get(file, []))
    others = {path for path, _ in there if path != file and path not in own and own & set(reasons.get(path, []))}
    return [] if others else sorted(own)


def _reason(reasons: list[Path]) -> str:
    for path in sorted(reasons, key=lambda each: len(each.name), reverse=True):
        try:
            with opened(path.parent) as folder:
                descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with open(descriptor, "rb") as text:  # noqa: PTH123  # of a descriptor
                said = text.read(_LONGEST_REASON).decode(errors="replace")
        except OSError:
            continue
        return words(said.partition(": ")[2] or said)
    return "The reason is no longer there."


def _unlink(*paths: Path) -> None:
    for path in paths:
        with suppress(FileNotFoundError), opened(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)
    remove_empty(_top())


def _token(file: Path) -> str:
    return urlsafe_b64encode(os.fsencode(file.relative_to(_top()))).decode()


def _file(token: str) -> Path:
    """Return the path of a token; none leads out of the folder of refused files. Raises NotPossible."""
    try:
        parts = os.fsdecode(urlsafe_b64decode(token)).split("/")
    except ValueError as error:
        raise NotPossible("There is no such file.") from error
    if not 2 <= len(parts) <= 3 or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise NotPossible("There is no such file.")
    return _top().joinpath(*parts)


def _shown(name: str) -> str:
    return words(os.fsencode(name).decode(errors="backslashreplace"))


def _not_possible(file: Path, error: OSError) -> NotPossible:
    if isinstance(error, FileNotFoundError):
        return NotPossible(f"{_shown(file.name)} is no longer there.")
    return NotPossible(f"{_shown(file.name)} can't be moved or removed: {error.strerror}.")
