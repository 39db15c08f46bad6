"""Draws pages of reports, as a program of its own that `previews` runs: what a file does here, it does to nobody else.

    render_worker.py picture FILE TYPE PAGE WIDTH TARGET
    render_worker.py preview FILE TYPE TARGET
    render_worker.py compare FILE TYPE OTHER_FILE OTHER_TYPE PAGE

Prints one JSON object. Ends with status 2 and a sentence on standard error where there is nothing to draw. It imports
nothing of the project, gets none of its environment, and has bounds on memory, time and what it writes.
"""

import ctypes
import json
import resource
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pypdfium2
from PIL import Image, ImageChops, ImageOps

MEMORY = 1024**3
SECONDS = 10
WRITTEN = 64 * 1024**2
PIXELS = 64_000_000
"""The largest picture that is opened: a screen's width and thirty screens long."""

HIGHEST = 16_000
"""Pixels; WebP ends a little above."""

PREVIEW = (480, 360)
COMPARED_WIDTH = 1000
CELL = 8
"""Pixels, of a picture COMPARED_WIDTH wide, that are compared as one: what changes less than that is noise."""

NOTICED = 3
"""Of 255: by how much a cell's mean must differ. A letter in a cell differs by ten and more."""


class NothingToDraw(Exception):  # noqa: N818  # of a file, it is a state
    """The file has no such picture; says why."""


def _opened(path: str, content_type: str, page: int, width: int) -> tuple[Image.Image, int]:
    """Return a page as an opaque picture of at most this width, and how many pages there are."""
    if content_type == "application/pdf":
        return _page(path, page, width)
    if page > 1:
        raise NothingToDraw("A picture has one page.")
    with Image.open(path, formats=["PNG", "JPEG"]) as image:
        if image.width * image.height > PIXELS:
            raise NothingToDraw(f"The picture has {image.width} × {image.height} pixels, more than is drawn.")
        image.draft("RGB", (width, HIGHEST))
        image.load()
        return _opaque(image, width), 1


def _page(path: str, number: int, width: int) -> tuple[Image.Image, int]:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = pypdfium2.raw.FPDF_GetLastError() == pypdfium2.raw.FPDF_ERR_PASSWORD or "assword" in str(error)
        reason = "The PDF is encrypted." if locked else "The PDF can't be read."
        raise NothingToDraw(reason) from error
    if not 1 <= number <= len(document):
        raise NothingToDraw(f"The PDF has {len(document)} pages.")
    page = document[number - 1]
    wide, high = page.get_size()
    if min(wide, high) <= 0:
        raise NothingToDraw("The page has no size.")
    scale = min(width / wide, HIGHEST / high)
    return page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB"), len(document)


def _opaque(image: Image.Image, width: int) -> Image.Image:
    """Return a picture of at most this width, on white where it is transparent. Scaled first: it may be large."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    small = _scaled(image if image.mode == mode else image.convert(mode), width)
    return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB") if transparent else small


def _scaled(image: Image.Image, width: int) -> Image.Image:
    scale = min(width / image.width, HIGHEST / image.height, 1)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def picture(path: str, content_type: str, page: str, width: str, target: str) -> dict[str, Any]:
    """Draw one page."""
    image, pages = _opened(path, content_type, int(page), int(width))
    image.save(target, "WEBP", quality=88, method=2)
    return {"pages": pages, "width": image.width, "height": image.height}


def preview(path: str, content_type: str, target: str) -> dict[str, Any]:
    """Draw the upper part of the first page, small."""
    image, pages = _opened(path, content_type, 1, 2 * PREVIEW[0])
    small = ImageOps.fit(image, PREVIEW, Image.Resampling.LANCZOS, centering=(0.5, 0))
    small.save(target, "WEBP", quality=80, method=4)
    return {"pages": pages}


def compare(path: str, content_type: str, other_path: str, other_type: str, page: str) -> dict[str, Any]:
    """Find where two pages differ.

    `areas` are left, top, width and height in hundredths of the picture's width, so they fit whatever its height.
    """
    one, pages = _opened(path, content_type, int(page), COMPARED_WIDTH)
    other, other_pages = _opened(other_path, other_type, int(page), COMPARED_WIDTH)
    sizes = [one.size, other.size]
    width = max(one.width, other.width)
    one, other = (each if each.width == width else _stretched(each, width) for each in (one, other))
    high = -(-max(one.height, other.height) // CELL) * CELL
    across = -(-width // CELL) * CELL
    grounds = []
    for image in (one, other):
        ground = Image.new("RGB", (across, high), "white")
        ground.paste(image, (0, 0))
        grounds.append(ground)
    difference = ImageChops.difference(*grounds)
    lower, upper = sorted((one.height, other.height))
    difference.paste("white", (0, lower, width, upper))  # where only one reaches, all has changed
    red, green, blue = difference.split()
    strongest = ImageChops.lighter(ImageChops.lighter(red, green), blue).reduce(CELL)
    cells = strongest.point(lambda value: 255 if value >= NOTICED else 0).tobytes()
    found = _areas(cells, across // CELL)
    changed = sum(1 for cell in cells if cell)
    unit = 100 * CELL / width
    return {
        "pages": max(pages, other_pages),
        "same_size": sizes[0] == sizes[1],
        "share": changed / max(len(cells), 1),
        "areas": [[round(number * unit, 2) for number in area] for area in found],
    }


def _stretched(image: Image.Image, width: int) -> Image.Image:
    return image.resize((width, max(round(image.height * width / image.width), 1)), Image.Resampling.LANCZOS)


def _areas(cells: bytes, across: int) -> list[tuple[int, int, int, int]]:
    """Return the boxes around what hangs together, across gaps of one cell: left, top, width, height in cells."""
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


_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
"""CLONE_NEWUSER and CLONE_NEWNET of linux/sched.h."""


def _bound() -> None:
    # Without network and without rights. Not every system allows it; the other bounds hold all the same.
    ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, WRITTEN),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def main(arguments: list[str]) -> int:
    """Do what the first argument says; return the exit status."""
    _bound()
    Image.MAX_IMAGE_PIXELS = PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    works: dict[str, Callable[..., dict[str, Any]]] = {"picture": picture, "preview": preview, "compare": compare}
    work = works[arguments[0]]
    try:
        found = work(*arguments[1:])
    except NothingToDraw as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except MemoryError:
        print("It takes more memory than a picture may.", file=sys.stderr)  # noqa: T201
        return 2
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        print("The picture is larger than is drawn.", file=sys.stderr)  # noqa: T201
        return 2
    except (OSError, ValueError, SyntaxError, pypdfium2.PdfiumError) as error:
        print(f"The file is damaged and can't be drawn ({type(error).__name__}).", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(found))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
