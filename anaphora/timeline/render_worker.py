"""Renders pages of reports and reads workbooks. `previews` runs it as a separate process, so that a malicious file
cannot affect others.

    render_worker.py page FILE TYPE PAGE WIDTH TARGET
    render_worker.py preview FILE TYPE TARGET
    render_worker.py compare FILE TYPE OTHER_FILE OTHER_TYPE PAGE
    render_worker.py sheets FILE TYPE ROWS COLUMNS

Prints one JSON object. If the file cannot be rendered, exits with status 2 and prints the reason to standard error. It
imports nothing of the project, gets an empty environment, and has limits on memory, time and output size.
"""

import ctypes
import json
import resource
import sys
import warnings
import zipfile
from collections.abc import Callable
from datetime import datetime, time
from typing import Any

import pypdfium2
from PIL import Image, ImageChops, ImageOps

MAX_MEMORY = 1024**3
MAX_CPU_SECONDS = 10
MAX_OUTPUT_BYTES = 64 * 1024**2
MAX_PIXELS = 64_000_000
"""Maximum size of an image in pixels."""

MAX_HEIGHT = 16_000
"""Maximum height in pixels. The maximum of WebP is 16,383."""

MAX_SHEETS = 5
MAX_CELL = 500
"""Maximum number of characters of a cell that are read."""

MAX_TEXT = 1024**2
"""Maximum number of characters of all cells."""

MAX_PARTS_SIZE = 64 * 1024**2
"""Maximum unpacked size in bytes of a workbook without its sheets. Unlike the sheets, this is read into memory."""

PREVIEW_SIZE = (480, 360)
COMPARE_WIDTH = 1000
CELL = 8
"""Width and height in pixels of the cells that are compared in an image of COMPARE_WIDTH."""

CHANGE_THRESHOLD = 3
"""Minimum difference of the mean of a cell, of 255. A different letter changes the mean by 10 or more."""


class PageRenderError(Exception):
    """The page cannot be rendered. The message says why."""


def _load_page(path: str, content_type: str, page: int, width: int) -> tuple[Image.Image, int]:
    """Return a page as an opaque image of at most this width, and the number of pages."""
    if content_type == "application/pdf":
        return _load_pdf_page(path, page, width)
    if page > 1:
        raise PageRenderError("An image has one page.")
    with Image.open(path, formats=["PNG", "JPEG"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise PageRenderError(f"The image is too large: {image.width} × {image.height} pixels.")
        image.draft("RGB", (width, MAX_HEIGHT))
        image.load()
        return _flatten(image, width), 1


def _load_pdf_page(path: str, number: int, width: int) -> tuple[Image.Image, int]:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = pypdfium2.raw.FPDF_GetLastError() == pypdfium2.raw.FPDF_ERR_PASSWORD or "assword" in str(error)
        reason = "The PDF is encrypted." if locked else "The PDF cannot be read."
        raise PageRenderError(reason) from error
    if not 1 <= number <= len(document):
        raise PageRenderError(f"The PDF has {len(document)} pages.")
    page = document[number - 1]
    wide, high = page.get_size()
    if min(wide, high) <= 0:
        raise PageRenderError("The width or height of the page is zero.")
    scale = min(width / wide, MAX_HEIGHT / high)
    return page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB"), len(document)


def _flatten(image: Image.Image, width: int) -> Image.Image:
    """Return an image of at most this width, with a white background. Scales first to limit memory use."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    small = _scale_down(image if image.mode == mode else image.convert(mode), width)
    return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB") if transparent else small


def _scale_down(image: Image.Image, width: int) -> Image.Image:
    scale = min(width / image.width, MAX_HEIGHT / image.height, 1)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def render_page(path: str, content_type: str, page: str, width: str, target: str) -> dict[str, Any]:
    """Render one page."""
    image, pages = _load_page(path, content_type, int(page), int(width))
    image.save(target, "WEBP", quality=88, method=2)
    return {"pages": pages, "width": image.width, "height": image.height}


def preview(path: str, content_type: str, target: str) -> dict[str, Any]:
    """Render the top of the first page in PREVIEW_SIZE."""
    image, pages = _load_page(path, content_type, 1, 2 * PREVIEW_SIZE[0])
    small = ImageOps.fit(image, PREVIEW_SIZE, Image.Resampling.LANCZOS, centering=(0.5, 0))
    small.save(target, "WEBP", quality=80, method=4)
    return {"pages": pages}


def compare(path: str, content_type: str, other_path: str, other_type: str, page: str) -> dict[str, Any]:
    """Compare two pages.

    `areas` are left, top, width and height in percent of the image width.
    """
    one, pages = _load_page(path, content_type, int(page), COMPARE_WIDTH)
    other, other_pages = _load_page(other_path, other_type, int(page), COMPARE_WIDTH)
    sizes = [one.size, other.size]
    width = max(one.width, other.width)
    one, other = (each if each.width == width else _scale_to_width(each, width) for each in (one, other))
    high = -(-max(one.height, other.height) // CELL) * CELL
    across = -(-width // CELL) * CELL
    canvases = []
    for image in (one, other):
        canvas = Image.new("RGB", (across, high), "white")
        canvas.paste(image, (0, 0))
        canvases.append(canvas)
    difference = ImageChops.difference(*canvases)
    lower, upper = sorted((one.height, other.height))
    difference.paste("white", (0, lower, width, upper))  # the part that only the taller image has
    red, green, blue = difference.split()
    strongest = ImageChops.lighter(ImageChops.lighter(red, green), blue).reduce(CELL)
    cells = strongest.point(lambda value: 255 if value >= CHANGE_THRESHOLD else 0).tobytes()
    found = _changed_areas(cells, across // CELL)
    changed = sum(1 for cell in cells if cell)
    unit = 100 * CELL / width
    return {
        "pages": max(pages, other_pages),
        "same_size": sizes[0] == sizes[1],
        "share": changed / max(len(cells), 1),
        "areas": [[round(number * unit, 2) for number in area] for area in found],
    }


def _scale_to_width(image: Image.Image, width: int) -> Image.Image:
    return image.resize((width, max(round(image.height * width / image.width), 1)), Image.Resampling.LANCZOS)


def _changed_areas(cells: bytes, across: int) -> list[tuple[int, int, int, int]]:
    """Return the bounding boxes of changed cells, joined across gaps of one cell: left, top, width, height in cells."""
    waiting = {index for index, cell in enumerate(cells) if cell}
    found = []
    while waiting:
        front = [waiting.pop()]
        left = right = front[0] % across
        top = bottom = front[0] // across
        while front:
            row, column = divmod(front.pop(), across)
            left, right = min(left, column), max(right, column)
            top, bottom = min(top, row), max(bottom, row)
            near = {
                y * across + x
                for y in range(row - 2, row + 3)
                for x in range(max(column - 2, 0), min(column + 3, across))
            } & waiting
            waiting -= near
            front.extend(near)
        found.append((left, top, right - left + 1, bottom - top + 1))
    return sorted(found, key=lambda box: (box[1], box[0]))


def sheets(path: str, content_type: str, rows: str, columns: str) -> dict[str, Any]:
    """Read the first rows and columns of the first visible sheets of a workbook, as text. Formulas are not computed."""
    import openpyxl  # only here, because it takes as long to load as an image to render

    with zipfile.ZipFile(path) as archive:
        parts = (each.file_size for each in archive.infolist() if "worksheets/" not in each.filename)
        if sum(parts) > MAX_PARTS_SIZE:
            raise PageRenderError("The workbook is too large.")
    warnings.simplefilter("ignore")  # about what openpyxl cannot keep when it writes
    book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    found, left = [], MAX_TEXT
    for sheet in visible[:MAX_SHEETS]:
        table = _read_sheet(sheet, int(rows), int(columns), left)
        left -= sum(len(cell) for row in table["rows"] for cell in row)
        found.append(table)
    return {"sheets": found, "more": len(visible) - len(found)}


def _read_sheet(sheet: Any, most_rows: int, most_columns: int, left: int) -> dict[str, Any]:
    rows: list[list[str]] = []
    for number, cells in enumerate(sheet.iter_rows(max_row=most_rows + 1, max_col=most_columns + 1)):
        row = [_cell_text(cell) for cell in cells]
        left -= sum(map(len, row))
        if left < 0 or number > most_rows:
            break
        rows.append(row)
    width = max((number for row in rows for number, cell in enumerate(row, 1) if cell), default=0)
    while rows and not any(rows[-1]):
        rows.pop()
    beyond = (sheet.max_row or 0) > most_rows or (sheet.max_column or 0) > most_columns
    complete = left >= 0 and len(rows) <= most_rows and width <= most_columns and not beyond
    width = min(width, most_columns)
    shown = [row[:width] + [""] * (width - len(row)) for row in rows[:most_rows]]
    return {"title": str(sheet.title)[:MAX_CELL], "rows": shown, "complete": complete}


def _cell_text(cell: Any) -> str:
    """Return the value of a cell as text: dates in ISO format, percentages as such, other numbers without a format."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return str(value.date()) if value.time() == time() else value.isoformat(" ", "seconds")
    if isinstance(value, int | float):
        pattern = str(cell.number_format)
        if pattern.endswith("%"):
            return f"{value:.{len(pattern.partition('.')[2].rstrip('%'))}%}"
        return f"{value:.15g}"
    return str(value)[:MAX_CELL]


_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
"""CLONE_NEWUSER and CLONE_NEWNET of linux/sched.h."""


def _set_limits() -> None:
    # No network and no privileges. Some systems do not allow this; the other limits apply anyway.
    ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)
    for what, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def main(arguments: list[str]) -> int:
    """Run the command in the first argument. Return the exit status."""
    _set_limits()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    works: dict[str, Callable[..., dict[str, Any]]] = {"page": render_page, "preview": preview, "compare": compare}
    works["sheets"] = sheets
    work = works[arguments[0]]
    try:
        found = work(*arguments[1:])
    except PageRenderError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except MemoryError:
        print("Rendering exceeds the memory limit.", file=sys.stderr)  # noqa: T201
        return 2
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        print("The image is too large.", file=sys.stderr)  # noqa: T201
        return 2
    except (OSError, ValueError, SyntaxError, LookupError, zipfile.BadZipFile, pypdfium2.PdfiumError) as error:
        print(f"The file is damaged and cannot be rendered ({type(error).__name__}).", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(found))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
