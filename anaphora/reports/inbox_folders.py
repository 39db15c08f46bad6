"""File operations in the inbox that never follow symbolic links.

Users who can write to the inbox can create links there at any time, also in place of the inbox's own folders.
Therefore each folder below INBOX_DIR is opened by descriptor, one path component at a time, with O_NOFOLLOW.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)


@contextmanager
def open_folder(folder: Path, *, create: bool = False) -> Iterator[int]:
    """Open a folder below INBOX_DIR and yield its descriptor. Raises OSError for a link."""
    kept: dict[Path, int] | None = getattr(_kept_open, "folders", None)
    if kept is None:
        descriptor = _open(folder, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        return
    if folder not in kept:
        if len(kept) == _MAX_KEPT_OPEN:
            _close(next(iter(kept)))
        kept[folder] = _open(folder, create=create)
    else:
        kept[folder] = kept.pop(folder)  # now the last one to be closed
    yield kept[folder]


@contextmanager
def folders_kept_open() -> Iterator[None]:
    """Let `open_folder()` open each folder once in this thread: a scan moves many files between a few folders."""
    _kept_open.folders = {}
    try:
        yield
    finally:
        for folder in [*_kept_open.folders]:
            _close(folder)
        del _kept_open.folders


_kept_open = threading.local()
_MAX_KEPT_OPEN = 64


def _close(folder: Path) -> None:
    """Close a folder that is kept open. Does nothing if it is not."""
    descriptor = getattr(_kept_open, "folders", {}).pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


def _open(folder: Path, *, create: bool) -> int:
    root = Path(str(settings.INBOX_DIR))
    descriptor = os.open(root, _FOLDER)
    try:
        for part in folder.relative_to(root).parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)  # pathlib has no mkdir relative to a descriptor
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def list_entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the entries of a folder, without following links. Return [] if the folder is missing or unreadable."""
    found = []
    try:
        with open_folder(folder) as descriptor, os.scandir(descriptor) as listed:
            for entry in listed:
                with suppress(OSError):  # another process moved it
                    found.append((folder / entry.name, entry.stat(follow_symlinks=False)))
    except FileNotFoundError:
        pass  # another process removed the empty folder
    except OSError as error:
        logger.warning("The inbox skipped the folder %r: %s", str(folder), error.strerror)
    return found


def list_folders(folder: Path) -> list[Path]:
    """Return the subfolders sorted by name, without links and hidden folders."""
    found = [path for path, facts in list_entries(folder) if stat.S_ISDIR(facts.st_mode)]
    return sorted(path for path in found if not path.name.startswith("."))


def list_names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the regular files and of the subfolders, without links and hidden folders.

    Many times as fast as the functions above. Returns no names if the folder is missing or unreadable.
    """
    files, folders = [], []
    with suppress(OSError), open_folder(folder) as descriptor, os.scandir(descriptor) as listed:
        for entry in listed:
            if entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                folders.append(entry.name)
    return files, folders


def move_file(file: Path, to: Path) -> Path:
    """Move a file and return its new path. If the name is in use, move the file to a new subfolder."""
    if os.path.lexists(to):
        to = to.parent / str(time.time_ns()) / to.name
    return rename_file(file, to)


def rename_file(file: Path, to: Path) -> Path:
    """Rename a file and create its folder, repeatedly if another process removes the empty folder.

    Raises FileNotFoundError if the file is gone.
    """
    while True:
        try:
            with open_folder(file.parent) as source, open_folder(to.parent, create=True) as target:
                os.rename(
                    file.name, to.name, src_dir_fd=source, dst_dir_fd=target
                )  # pathlib has no rename relative to a descriptor
                return to
        except FileNotFoundError:
            _close(file.parent)  # a folder kept open can have been removed, and created again under its name
            _close(to.parent)
            if not os.path.lexists(file):
                raise


def remove_empty_folders(folder: Path) -> None:
    """Remove a folder and its subfolders if they are empty. Does nothing to a folder that is in use."""
    for each in list_folders(folder):
        remove_empty_folders(each)
    with suppress(OSError), open_folder(folder.parent) as parent:
        os.rmdir(folder.name, dir_fd=parent)
