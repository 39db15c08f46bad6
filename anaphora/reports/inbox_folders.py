"""The folders of the inbox, opened so that nobody can lead us elsewhere by a link.

Whoever may write to the inbox may put links there, also in the place of our own folders, at any moment. So every
folder below INBOX_DIR is opened by descriptor, part by part, and no part may be a link.
"""

import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)


@contextmanager
def opened(folder: Path, *, create: bool = False) -> Iterator[int]:
    """Open a folder below INBOX_DIR, or make it; yield its descriptor. Raises OSError for a link."""
    root = Path(str(settings.INBOX_DIR))
    descriptor = os.open(root, _FOLDER)
    try:
        for part in folder.relative_to(root).parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)  # Path has no mkdir below a descriptor
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return what is in a folder, links as links. Nothing if it is gone, or can't be read, which is logged."""
    found = []
    try:
        with opened(folder) as descriptor, os.scandir(descriptor) as listed:
            for entry in listed:
                with suppress(OSError):  # somebody else has it
                    found.append((folder / entry.name, entry.stat(follow_symlinks=False)))
    except FileNotFoundError:
        pass  # another taker's tidying removed it
    except OSError as error:
        logger.warning("The inbox passes over the folder %r: %s", str(folder), error.strerror)
    return found


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without links and hidden ones."""
    found = [path for path, facts in entries(folder) if stat.S_ISDIR(facts.st_mode)]
    return sorted(path for path in found if not path.name.startswith("."))


def move(file: Path, to: Path) -> Path:
    """Move a file, into a folder of its own if there is one of that name already; return where it is now."""
    if os.path.lexists(to):
        to = to.parent / str(time.time_ns()) / to.name
    return rename(file, to)


def rename(file: Path, to: Path) -> Path:
    """Give a file a new name; its folder is made, again if another taker's tidying removes it before it is filled.

    Raises FileNotFoundError if the file is gone.
    """
    while True:
        try:
            with opened(file.parent) as source, opened(to.parent, create=True) as target:
                os.rename(file.name, to.name, src_dir_fd=source, dst_dir_fd=target)  # likewise
                return to
        except FileNotFoundError:
            if not os.path.lexists(file):
                raise


def remove_empty(folder: Path) -> None:
    """Remove what is empty in a folder, and it; whoever puts something in at the same moment wins."""
    for each in folders(folder):
        remove_empty(each)
    with suppress(OSError), opened(folder.parent) as parent:
        os.rmdir(folder.name, dir_fd=parent)
