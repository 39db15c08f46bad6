"""Detects the content type of a rendered file from its content. File names are used as hints only.

Each kind has one row. To add a kind, add a row. If the kind has no signature, add a test of its text to `_kind`.
"""

import csv
import json
import mimetypes
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from anaphora.reports.text_encoding import decode, starts_with_byte_order_mark

HEAD_SIZE = 64 * 1024
"""Number of bytes at the start of a file that are needed to detect its kind."""

UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class Kind:
    """A kind of report file: its content type, and its file name extensions, the most common first."""

    content_type: str
    extensions: tuple[str, ...]
    signatures: tuple[bytes, ...] = ()
    """Byte sequences at the start of the content, any of which identifies the kind."""


_PDF = Kind("application/pdf", (".pdf",), (b"%PDF-",))
_PNG = Kind("image/png", (".png",), (b"\x89PNG\r\n\x1a\n",))
_JPEG = Kind("image/jpeg", (".jpg", ".jpeg", ".jpe"), (b"\xff\xd8\xff",))
_ZIP = Kind("application/zip", (".zip",), (b"PK\x03\x04", b"PK\x05\x06"))
_XLSX = Kind("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", (".xlsx",))
_SVG = Kind("image/svg+xml", (".svg",))
_HTML = Kind("text/html", (".html", ".htm"))
_JSON = Kind("application/json", (".json",))
_CSV = Kind("text/csv", (".csv",))

PREVIEWABLE = frozenset(kind.content_type for kind in (_PDF, _PNG, _JPEG))
"""The content types of which page images are rendered."""

XLSX = _XLSX.content_type
KNOWN_KINDS = {kind.content_type: kind for kind in (_PDF, _PNG, _JPEG, _SVG, _CSV, _XLSX, _HTML, _JSON, _ZIP)}


_OTHERS = (
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"%!PS", "application/postscript"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"{\\rtf", "application/rtf"),
)
"""Signatures of further content types: offset, bytes, content type. These files are downloaded, not displayed."""

_IN_ZIP = (
    (b"xl/", _XLSX.content_type),
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)

_RISKY = (
    (b"\x7fELF", "a program for Linux"),
    (b"\xfe\xed\xfa", "a program for macOS"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS"),
    (b"\xce\xfa\xed\xfe", "a program for macOS"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"#!", "a script"),
)
# fmt: off
_RISKY_ENDINGS = frozenset({
    ".exe", ".com", ".scr", ".msi", ".bat", ".cmd", ".ps1", ".vbs", ".vbe", ".js", ".jse", ".wsf", ".hta", ".lnk",
    ".jar", ".apk", ".sh", ".bash", ".py", ".rb", ".pl", ".php",
})
# fmt: on


def describe_risk(head: bytes, filename: str) -> str:
    """Return what kind of program or script a file is, or an empty string. Renderers do not create such files."""
    found = next((what for begins, what in _RISKY if head.startswith(begins)), "")
    if head.startswith(b"MZ") and b"\0" in head[:64]:  # a text can start with MZ too
        found = "a program for Windows"
    if not found and PurePath(filename).suffix.lower() in _RISKY_ENDINGS:
        found = f"a program or script by its name ({PurePath(filename).suffix.lower()})"
    return found


def detect_content_type(head: bytes, filename: str) -> str:
    """Return the content type of a file from its first HEAD_SIZE bytes.

    If the content is none of KNOWN_KINDS, the file name extension determines the type, unless it is one of theirs.
    """
    found = _kind(head, filename)
    if found is not None and found is not _ZIP:
        return found.content_type
    if found is _ZIP:
        return _in_zip(head)
    other = next((kind for at, begins, kind in _OTHERS if head.startswith(begins, at)), "")
    if other:
        return other
    claimed = mimetypes.guess_type(filename)[0] or UNKNOWN
    text = _text(head)
    if text is not None:
        return claimed if claimed not in KNOWN_KINDS and claimed.startswith(_TEXTUAL) else _plain(text)
    return UNKNOWN if claimed in KNOWN_KINDS or claimed.startswith("text/") else claimed


_TEXTUAL = ("text/", "application/xml", "application/yaml", "application/toml", "application/sql")


def _plain(text: str) -> str:
    return "application/xml" if text.lstrip().startswith("<?xml") else "text/plain"


def _in_zip(head: bytes) -> str:
    # The first member of an OpenDocument file is "mimetype", uncompressed (OpenDocument 1.2, part 3, 3.3).
    if head[30:38] == b"mimetype":
        declared = re.match(rb"application/vnd\.oasis\.opendocument\.[a-z-]+", head[38:138])
        if declared:
            return declared[0].decode()
    names = list(_names_in_zip(head))
    return next((kind for folder, kind in _IN_ZIP if any(name.startswith(folder) for name in names)), _ZIP.content_type)


def extension(content_type: str, filename: str) -> str:
    """Return the file name extension for a content type: that of `filename` if it fits, else the usual one.

    Return an empty string if the kind is unknown and `filename` has no valid extension.
    """
    own = PurePath(filename).suffix.lower()
    own = own if own[1:].isascii() and own[1:].isalnum() and len(own) <= 11 else ""
    kind = KNOWN_KINDS.get(content_type)
    return own if kind is None or own in kind.extensions else kind.extensions[0]


def _kind(head: bytes, filename: str) -> Kind | None:
    for kind in (_PDF, _PNG, _JPEG):
        if head.startswith(kind.signatures):
            return kind
    if head.startswith(_ZIP.signatures):
        return _ZIP
    # A PDF can have up to 1 KB of other bytes before its signature (ISO 32000-1, annex H.3.4.1).
    if b"%PDF-" in head[:1024] and b"\0" in head[:HEAD_SIZE]:
        return _PDF
    text = _text(head)
    if text is None:
        return None
    tests: list[tuple[Kind, Callable[[], bool]]] = [
        (_SVG, lambda: _root(text) == "svg"),
        (_HTML, lambda: _root(text) in {"html", "!doctype html", "head", "body"}),
        (_JSON, lambda: _is_json(text, whole=len(head) < HEAD_SIZE)),
        (_CSV, lambda: _is_csv(text, named=filename.lower().endswith(".csv"))),
    ]
    return next((kind for kind, matches in tests if matches()), None)


def _names_in_zip(head: bytes) -> Iterator[bytes]:
    """Yield the member names of a ZIP file whose local headers are in `head` (APPNOTE.TXT, 4.3.7)."""
    position = 0
    while (position := head.find(b"PK\x03\x04", position)) >= 0 and position + 30 <= len(head):
        (length,) = struct.unpack_from("<H", head, position + 26)
        yield head[position + 30 : position + 30 + length]
        position += 30


_CONTROLS = r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]"
_CONTROL, _CONTROL_BYTE = re.compile(_CONTROLS), re.compile(_CONTROLS.encode())


def _text(head: bytes) -> str | None:
    """Return `head` as text, or None if it is binary."""
    # Checked first, because detecting the encoding of binary data takes a quarter of a second. Only UTF-16 and UTF-32
    # contain these bytes, and they are recognized by their byte order marks.
    if not starts_with_byte_order_mark(head) and _CONTROL_BYTE.search(head):
        return None
    text = decode(head)
    unreadable = text.count("\ufffd") * 100 > len(text)
    return None if unreadable or _CONTROL.search(text) else text


def _root(text: str) -> str:
    """Return the name of the root element in lower case, or an empty string. Skips declarations and comments."""
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
    """Return whether all rows have the same number of cells. With a .csv file name, any text is accepted."""
    lines = text.splitlines()[:50]
    if len(text) >= HEAD_SIZE / 4:
        lines = lines[:-1]  # the last line can be truncated
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
