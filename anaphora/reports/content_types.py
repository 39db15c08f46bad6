"""What a rendered file is, by its content: names and declared types are hints at most.

Each kind has one row; to add one, add a row and, where its first bytes don't tell, a test of its text.
"""

import csv
import json
import mimetypes
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

HEAD = 64 * 1024
"""Bytes from the start of a file that tell its kind."""

UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Kind:
    """A kind of file that reports come as: its content type, and the endings of such files' names, the usual first."""

    content_type: str
    endings: tuple[str, ...]
    begins: tuple[bytes, ...] = ()
    """Any of these is how its content begins."""


_PDF = Kind("application/pdf", (".pdf",), (b"%PDF-",))
_PNG = Kind("image/png", (".png",), (b"\x89PNG\r\n\x1a\n",))
_JPEG = Kind("image/jpeg", (".jpg", ".jpeg", ".jpe"), (b"\xff\xd8\xff",))
_ZIP = Kind("application/zip", (".zip",), (b"PK\x03\x04", b"PK\x05\x06"))
_XLSX = Kind("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", (".xlsx",))
_SVG = Kind("image/svg+xml", (".svg",))
_HTML = Kind("text/html", (".html", ".htm"))
_JSON = Kind("application/json", (".json",))
_CSV = Kind("text/csv", (".csv",))

DRAWN = frozenset(kind.content_type for kind in (_PDF, _PNG, _JPEG))
"""The kinds of which there are pictures."""

KINDS = {kind.content_type: kind for kind in (_PDF, _PNG, _JPEG, _SVG, _CSV, _XLSX, _HTML, _JSON, _ZIP)}


def content_type(head: bytes, filename: str) -> str:
    """Return the content type of a file by its first HEAD bytes.

    Of a content that none of KINDS has, the name's ending says what it is, unless it claims one of KINDS.
    """
    found = _kind(head, filename)
    if found is not None:
        return found.content_type
    claimed = mimetypes.guess_type(filename)[0] or UNKNOWN
    return UNKNOWN if claimed in KINDS else claimed


def ending(content_type: str, filename: str) -> str:
    """Return what a name should end with: its own ending in lower case where that fits the content, else the usual.

    Empty for a content of no known kind whose name has no plain ending.
    """
    own = PurePath(filename).suffix.lower()
    own = own if own[1:].isascii() and own[1:].isalnum() and len(own) <= 11 else ""
    kind = KINDS.get(content_type)
    return own if kind is None or own in kind.endings else kind.endings[0]


def _kind(head: bytes, filename: str) -> Kind | None:
    for kind in (_PDF, _PNG, _JPEG):
        if head.startswith(kind.begins):
            return kind
    if head.startswith(_ZIP.begins):
        return _XLSX if any(name.startswith(b"xl/") for name in _names_in_zip(head)) else _ZIP
    # A PDF may have up to a kilobyte of something else before its mark (ISO 32000-1, annex H.3.4.1).
    if b"%PDF-" in head[:1024] and b"\0" in head[:HEAD]:
        return _PDF
    text = _text(head)
    if text is None:
        return None
    tests: list[tuple[Kind, Callable[[], bool]]] = [
        (_SVG, lambda: _root(text) == "svg"),
        (_HTML, lambda: _root(text) in {"html", "!doctype html", "head", "body"}),
        (_JSON, lambda: _is_json(text, whole=len(head) < HEAD)),
        (_CSV, lambda: _is_csv(text, named=filename.lower().endswith(".csv"))),
    ]
    return next((kind for kind, is_so in tests if is_so()), None)


def _names_in_zip(head: bytes) -> Iterator[bytes]:
    """Yield the names of a ZIP's members as far as `head` has their local headers (APPNOTE.TXT, 4.3.7)."""
    position = 0
    while (position := head.find(b"PK\x03\x04", position)) >= 0 and position + 30 <= len(head):
        (length,) = struct.unpack_from("<H", head, position + 26)
        yield head[position + 30 : position + 30 + length]
        position += 30


def _text(head: bytes) -> str | None:
    """Return `head` as text, None if it isn't any."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) & ~1].decode("utf-16", "replace")
    else:
        try:
            text = head.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            cut_at_the_end = error.start > len(head) - 4 and len(head) >= HEAD
            text = head[: error.start].decode("utf-8-sig") if cut_at_the_end else head.decode("latin-1")
    return None if re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]", text) else text


def _root(text: str) -> str:
    """Return the name of the first element, in lower case, past declarations and comments; empty for none."""
    rest = re.sub(r"\A(?:\s+|<\?.*?\?>|<!--.*?-->|<!doctype svg.*?>)*", "", text, flags=re.DOTALL | re.IGNORECASE)
    found = re.match(r"<(!doctype\s+html|(?:\w+:)?(\w+))", rest, re.IGNORECASE)
    if found is None:
        return ""
    return found[2].lower() if found[2] else "!doctype html"


def _is_json(text: str, *, whole: bool) -> bool:
    if whole:
        try:
            return isinstance(json.loads(text), dict | list)
        except ValueError:
            return False
        except RecursionError:
            return True
    return bool(re.match(r'\s*(?:\{\s*"|\[\s*(?:[\[{"\d-]|true|false|null))', text))


def _is_csv(text: str, *, named: bool) -> bool:
    """Tell whether rows have a delimiter, and all the same number of cells. A name that says so needs less proof."""
    lines = text.splitlines()[:50]
    if len(text) >= HEAD / 4:
        lines = lines[:-1]  # it may be cut
    if named:
        return bool(lines)
    for delimiter in ",;\t|":
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        except csv.Error:
            continue
        if len(lines) > 1 and len(widths) == 1 and max(widths) > 1:
            return True
    return False
