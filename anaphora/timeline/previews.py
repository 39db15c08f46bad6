"""Pictures of reports: previews, pages, and what differs between two of them.

A program of its own draws them (`render_worker`), bounded in memory and time: a hostile file costs one picture.
Previews are kept in a folder of their own and can be thrown away: they are made again.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import QuerySet

from anaphora.deliveries import files
from anaphora.reports.content_types import DRAWN
from anaphora.reports.models import Preview, Report

logger = logging.getLogger(__name__)

LARGEST = 256 * 1024**2
"""Bytes of a file that is drawn; it may have to be fetched for that."""

TIMEOUT = 20
"""Seconds for one picture, whatever it waits for. Its processor time is bounded by itself."""

WIDTH = 1400
"""Pixels of a page that is looked at: sharp on a wide screen."""

_PROGRAM = Path(__file__).with_name("render_worker.py")
_slots = threading.BoundedSemaphore(2)
"""Those who look share the machine with those who deliver."""
_places = threading.BoundedSemaphore(4)
"""For those who fetch a file, wait or draw. Each holds a thread of the web server, which has other work too."""

REMEMBERED = 3600
"""Seconds for which a page that could not be drawn is not tried again."""


class NoPicture(Exception):  # noqa: N818  # of a file, it is a state
    """There is no picture of it; says why. `passes`: there may be one later, as it is no fault of the file."""

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


@dataclass(frozen=True)
class Page:
    """One page as a WebP."""

    image: bytes
    pages: int
    """How many the report has."""


@dataclass(frozen=True)
class Comparison:
    """Where one page of two reports differs."""

    pages: int
    same_size: bool
    share: float
    """Of the page that has changed, from 0 to 1."""
    areas: list[tuple[float, float, float, float]]
    """Left, top, width, height in hundredths of the picture's width."""


def page(report: Report, number: int, width: int = WIDTH) -> Page:
    """Draw one page; the first is 1. Raises NoPicture."""
    with (
        _remembering(f"no-page-{report.pk}-{number}"),
        # A file, no folder: housekeeping removes such as a killed process leaves there.
        tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as target,
    ):
        facts = _draw("picture", [report], str(number), str(width), target.name)
        return Page(target.read(), facts["pages"])


def compare(one: Report, other: Report, number: int) -> Comparison:
    """Compare one page of two reports. Raises NoPicture."""
    with _remembering(f"no-comparison-{one.pk}-{other.pk}-{number}"):
        facts = _draw("compare", [one, other], str(number))
    areas = [tuple(area) for area in facts["areas"]]
    return Comparison(facts["pages"], facts["same_size"], facts["share"], areas)


@contextmanager
def _remembering(key: str) -> Iterator[None]:
    """Raise at once the NoPicture that was raised here before, unless it was one that passes."""
    if (before := cache.get(key)) is not None:
        raise NoPicture(before)
    try:
        yield
    except NoPicture as error:
        if not error.passes:
            cache.set(key, str(error), REMEMBERED)
        raise


def make_preview(report: Report) -> None:
    """Make a report's preview and count its pages. What can't be drawn is not tried again."""
    target = report.preview_path
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    try:
        report.pages = _draw("preview", [report], name)["pages"]
        Path(name).replace(target)
        report.preview = Preview.MADE
    except NoPicture as error:
        logger.info("No preview of %s: %s", report, error)
        report.preview = Preview.WAITING if error.passes else Preview.NONE
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    Report.objects.filter(pk=report.pk).update(preview=report.preview, pages=report.pages)


def make_previews(seconds: float) -> bool:
    """Make the previews that are missing, the latest first, for so long; return whether there may be more.

    Those of reports without a local copy are made when somebody looks at them: to fetch a whole archive for them
    would cost more than they are worth.
    """
    end = monotonic() + seconds
    for report in waiting().iterator(50):
        if monotonic() > end:
            return True
        make_preview(report)
    return False


def waiting() -> QuerySet[Report]:
    """Return the reports whose preview is to be made, the latest first."""
    found = Report.objects.filter(preview=Preview.WAITING, content_type__in=DRAWN)
    return found.exclude(file="").select_related("dashboard").order_by("-ingested_at")


def _draw(what: str, reports: list[Report], *arguments: str) -> dict[str, Any]:
    # The place comes first: to fetch a file takes as long as its store does, and holds a thread of the web server too.
    if not _places.acquire(blocking=False):
        raise NoPicture("Too many pictures are being drawn; try again.", passes=True)
    with ExitStack() as stack:
        stack.callback(_places.release)
        paths: list[str] = []
        for report in reports:
            if report.content_type not in DRAWN:
                raise NoPicture("There are pictures of PDF, PNG and JPEG.")
            if report.size > LARGEST:
                raise NoPicture(f"The file is larger than {LARGEST // 1024**2} MiB.")
            try:
                paths += [stack.enter_context(files.opened(report)).name, report.content_type]
            except files.Unavailable as error:
                raise NoPicture(str(error), passes=True) from error
        return _run(what, *map(str, paths), *arguments)


def _run(*arguments: str) -> dict[str, Any]:
    if not _slots.acquire(timeout=TIMEOUT):
        raise NoPicture("Too many pictures are being drawn; try again.", passes=True)
    return _run_in_slot(*arguments)


def _run_in_slot(*arguments: str) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603  # our own program, and paths that we made
            [sys.executable, "-I", str(_PROGRAM), *arguments],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise NoPicture(f"It takes longer than {TIMEOUT} seconds.") from error
    finally:
        _slots.release()
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    if done.returncode == 2:
        raise NoPicture(done.stderr.decode(errors="replace").strip())
    if done.returncode > 0:
        logger.error("The program that draws stumbled over a bug: %s", done.stderr.decode(errors="replace"))
    raise NoPicture("The file can't be drawn within the bounds of memory and time.")
