"""Real files of every kind, created by widely used libraries."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
from PIL import Image, ImageDraw

NAMES = [
    *("Umsätze März.{}", "売上 📈.{}", "two  blanks .{}", "../../etc/passwd.{}", ".hidden.{}", "...{}"),
    *("a'b\"c;d.{}", "%41%2F.{}", "x" * 250 + ".{}", "ü" * 125 + ".{}", "no ending at all", "UPPER.{}"),
    *("a.tar.{}", "C:\\reports\\weekly.{}", "line\nbreak.{}"),
]
"""Typical file names, with a placeholder for the extension."""


def _picture(number: int) -> Image.Image:
    image = Image.new("RGB", (160, 90), (number * 7 % 255, 90, 160))
    ImageDraw.Draw(image).text((10, 30), f"report {number}", fill="white")
    return image


def _image(format_: str) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        target = io.BytesIO()
        _picture(number).save(target, format_)
        return target.getvalue()

    return make


def _xlsx(number: int) -> bytes:
    book, target = openpyxl.Workbook(), io.BytesIO()
    sheet: Any = book.active
    for row in range(30):
        sheet.append([f"row {row}", number, row * 1.5])
    book.save(target)
    return target.getvalue()


def _csv(number: int) -> bytes:
    target = io.StringIO()
    csv.writer(target).writerows([["region", "revenue"], ["Nürnberg", number], ["a, b", number * 2]])
    return target.getvalue().encode()


def _json(number: int) -> bytes:
    return json.dumps({"report": number, "rows": list(range(number))}).encode()


def _zip(number: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("report.txt", f"report {number}" * 50)
    return target.getvalue()


def _svg(number: int) -> bytes:
    return f'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><text>{number}</text></svg>'.encode()


def _html(number: int) -> bytes:
    return f"<!DOCTYPE html>\n<html><body>report {number}</body></html>".encode()


MAKERS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "pdf": ("application/pdf", _image("PDF")),
    "png": ("image/png", _image("PNG")),
    "jpg": ("image/jpeg", _image("JPEG")),
    "svg": ("image/svg+xml", _svg),
    "csv": ("text/csv", _csv),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _xlsx),
    "html": ("text/html", _html),
    "json": ("application/json", _json),
    "zip": ("application/zip", _zip),
}
"""By extension: the content type, and the function that creates the n-th file."""


def files(number: int) -> list[tuple[str, bytes, str]]:
    """Return this many different files of all kinds, with various names: (name, content, content type)."""
    made = []
    kinds = list(MAKERS.items())
    for index in range(number):
        ending, (content_type, make) = kinds[index % len(kinds)]
        name = NAMES[index % len(NAMES)].format(ending)
        made.append((name, make(index), content_type))
    return made
