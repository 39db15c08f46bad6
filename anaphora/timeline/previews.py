"""Renders previews and pages of reports as images, and compares pages of two reports.

A separate process (`render_worker`) with limits on memory and time renders them, so that a malicious file affects only
its own image. Previews are stored in a separate folder. If they are deleted, they are created again.
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
from anaphora.reports.content_types import PREVIEWABLE, XLSX
from anaphora.reports.models import Preview, Report

logger = logging.getLogger(__name__)

MAX_FILE_SIZE = 256 * 1024**2
"""Maximum size of a file that is rendered. The file may have to be fetched from its store first."""

TIMEOUT_SECONDS = 20
"""Time limit of one image. The CPU time has its own limit in `render_worker`."""

PAGE_WIDTH = 1400
"""Width of page images in pixels."""

_PROGRAM = Path(__file__).with_name("render_worker.py")
_slots = threading.BoundedSemaphore(2)
"""Limits rendering processes, because deliveries run on the same machine."""
_requests = threading.BoundedSemaphore(4)
"""Limits requests that fetch, wait or render. Each of them occupies a thread of the web server."""

FAILURE_CACHE_SECONDS = 3600
"""Time after which a page that could not be rendered is tried again."""


class RenderError(Exception):
    """A page cannot be rendered. The message says why. `temporary`: it may succeed later, the file is not the cause."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


@dataclass(frozen=True)
class Page:
    """One page as a WebP image."""

    image: bytes
    pages: int
    """Number of pages of the report."""


@dataclass(frozen=True)
class Comparison:
    """The differences between one page of two reports."""

    pages: int
    same_size: bool
    share: float
    """The changed share of the page, from 0 to 1."""
    areas: list[tuple[float, float, float, float]]
    """Left, top, width and height in percent of the image width."""


def render_page(report: Report, number: int, width: int = PAGE_WIDTH) -> Page:
    """Render one page. Page numbers start at 1. Raises RenderError."""
    with (
        _cache_failure(f"no-page-{report.pk}-{number}"),
        # A file, not a folder, because housekeeping removes files that killed processes leave there.
        tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as target,
    ):
        facts = _render("page", [report], str(number), str(width), target.name)
        return Page(target.read(), facts["pages"])


def compare_pages(one: Report, other: Report, number: int) -> Comparison:
    """Compare one page of two reports. Raises RenderError."""
    with _cache_failure(f"no-comparison-{one.pk}-{other.pk}-{number}"):
        facts = _render("compare", [one, other], str(number))
    areas = [tuple(area) for area in facts["areas"]]
    return Comparison(facts["pages"], facts["same_size"], facts["share"], areas)


def read_sheets(report: Report, rows: int, columns: int) -> dict[str, Any]:
    """Return `sheets`, the first sheets of a workbook as rows of text, and how many `more` there are.

    Raises RenderError.
    """
    with _cache_failure(f"no-sheets-{report.pk}"):
        return _render("sheets", [report], str(rows), str(columns))


@contextmanager
def _cache_failure(key: str) -> Iterator[None]:
    """Cache permanent render errors and raise a cached error immediately."""
    if (before := cache.get(key)) is not None:
        raise RenderError(before)
    try:
        yield
    except RenderError as error:
        if not error.temporary:
            cache.set(key, str(error), FAILURE_CACHE_SECONDS)
        raise


def make_preview(report: Report) -> None:
    """Create the preview of a report and count its pages. After a permanent error, it is not tried again."""
    target = report.preview_path
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    try:
        report.pages = _render("preview", [report], name)["pages"]
        Path(name).replace(target)
        report.preview = Preview.MADE
    except RenderError as error:
        logger.info("No preview of %s: %s", report, error)
        report.preview = Preview.WAITING if error.temporary else Preview.NONE
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    Report.objects.filter(pk=report.pk).update(preview=report.preview, pages=report.pages)


def make_previews(seconds: float) -> bool:
    """Create missing previews for up to `seconds`, the latest first. Return whether more can be missing.

    Previews of reports without a local copy are created when a user views the report, to avoid fetching the whole
    archive.
    """
    end = monotonic() + seconds
    for report in reports_without_preview().iterator(50):
        if monotonic() > end:
            return True
        make_preview(report)
    return False


def reports_without_preview() -> QuerySet[Report]:
    """Return the reports with a local copy whose preview is not created yet, the latest first."""
    found = Report.objects.filter(preview=Preview.WAITING, content_type__in=PREVIEWABLE)
    return found.exclude(file="").select_related("dashboard").order_by("-ingested_at")


def _render(what: str, reports: list[Report], *arguments: str) -> dict[str, Any]:
    # The limit also covers fetching the file, which can take long and occupies a thread of the web server too.
    if not _requests.acquire(blocking=False):
        raise RenderError("Too many images are being rendered. Try again.", temporary=True)
    with ExitStack() as stack:
        stack.callback(_requests.release)
        paths: list[str] = []
        for report in reports:
            if report.content_type not in ({XLSX} if what == "sheets" else PREVIEWABLE):
                raise RenderError("Only PDF, PNG and JPEG files can be rendered.")
            if report.size > MAX_FILE_SIZE:
                raise RenderError(
                    f"The file cannot be rendered, because it is larger than {MAX_FILE_SIZE // 1024**2} MiB."
                )
            try:
                paths += [stack.enter_context(files.opened(report)).name, report.content_type]
            except files.Unavailable as error:
                raise RenderError(str(error), temporary=True) from error
        return _run(what, *map(str, paths), *arguments)


def _run(*arguments: str) -> dict[str, Any]:
    if not _slots.acquire(timeout=TIMEOUT_SECONDS):
        raise RenderError("Too many images are being rendered. Try again.", temporary=True)
    return _run_in_slot(*arguments)


def _run_in_slot(*arguments: str) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603  # a program and paths of this project
            [sys.executable, "-I", str(_PROGRAM), *arguments],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise RenderError(f"Rendering takes longer than {TIMEOUT_SECONDS} seconds.") from error
    finally:
        _slots.release()
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    if done.returncode == 2:
        raise RenderError(done.stderr.decode(errors="replace").strip())
    if done.returncode > 0:
        logger.error("Unexpected error in the render worker: %s", done.stderr.decode(errors="replace"))
    raise RenderError("The file cannot be rendered within the limits of memory and time.")
