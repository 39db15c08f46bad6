"""Reads the lines of a manifest as what an index is rebuilt from. Nothing of a line is taken for granted.

A line passes the same checks as an object's own metadata. Reading asks neither store nor database, so that another
thread can do it while the database writes what was read before.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO
from uuid import UUID

from anaphora.deliveries.destinations import Integrity
from anaphora.deliveries.object_keys import Described, Unclear, checked, instant_of, kind_of
from anaphora.deliveries.rebuild_rows import Found
from anaphora.foreign_text import clean_line, valid_identifier

LONGEST = 64 * 1024 + 1
"""Bytes of a line with its end."""

_STEP = 3 * 1024**2
"""Bytes of the lines at a step: about 5,000 reports."""

_TEXTS = itemgetter(
    "key", "version_id", "etag", "sha256", "md5", "content_type", "dashboard", "title", "rendered_at", "ingested_at",
    "delivered_at", "filename", "report_id", "integrity",
)  # fmt: skip

_GRADES = frozenset(Integrity.values)


@dataclass
class Lines:
    """What some of a manifest's lines say."""

    found: list[Found] = field(default_factory=list)
    unclear: list[tuple[str, str]] = field(default_factory=list)
    """Keys of lines that can't be made out, each with the reason."""
    irregularities: list[dict[str, Any]] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    """Of dashboards, by their slugs."""


def read(file: BinaryIO, *, manifest: int, name: str, prefix: str) -> Iterator[Lines]:
    """Yield what the lines after the header say, some thousand at a time.

    `manifest` is the key of the manifest's row, `name` its own in the store, `prefix` what all keys begin with.
    """
    lines, size = Lines(), 0
    for text in iter(partial(file.readline, LONGEST), b""):
        _add(lines, text, manifest, name, prefix)
        size += len(text)
        if size >= _STEP:
            yield lines
            lines, size = Lines(), 0
    yield lines


def _add(lines: Lines, text: bytes, manifest: int, name: str, prefix: str) -> None:
    key = name
    try:
        line = json.loads(text)
        if not isinstance(line, dict):
            raise Unclear("A line is no JSON object.")
        kind = line.get("type")
        if kind == "report":
            key = str(line.get("key", name))
            found = _report(line, prefix, manifest)
            lines.found.append(found)
            if found.told.title:
                lines.titles[found.told.dashboard] = found.told.title
        elif kind == "irregularity":
            lines.irregularities.append(_irregularity(line))
    except KeyError as error:
        lines.unclear.append((key, f"A manifest lists it, without {error.args[0]}."))
    except Unclear as error:
        lines.unclear.append((key, f"A manifest lists it: {error}"))
    except (ValueError, OverflowError, RecursionError) as error:
        lines.unclear.append((key, f"A manifest lists it: {clean_line(str(error), 200)}."))


def _report(line: dict[str, Any], prefix: str, manifest: int) -> Found:
    """Return what a line of type `report` says. Raises Unclear, KeyError, ValueError, OverflowError."""
    if {*map(type, _TEXTS(line))} != {str}:
        raise Unclear("Something is not text that has to be.")
    key, size, content_type = line["key"], line["size"], line["content_type"]
    if type(size) is not int or not 0 < size < 2**63:
        raise Unclear("It has no size.")
    if not (content_type.isprintable() and 0 < len(content_type) <= 127):
        raise Unclear("It has no content type.")
    if line["integrity"] not in _GRADES:
        raise Unclear("It has no grade of integrity.")
    if kind_of(prefix, key) != "report":
        raise Unclear("No key of a report.")
    told = Described(
        report_id=UUID(line["report_id"]),
        dashboard=line["dashboard"],
        title=line["title"],
        rendered_at=instant_of(line["rendered_at"]).replace(microsecond=0),
        ingested_at=instant_of(line["ingested_at"]),
        sha256=line["sha256"],
        md5=line["md5"],
        filename=line["filename"],
    )
    return Found(
        key=key,
        told=checked(told, prefix=prefix, key=key),
        content_type=content_type,
        size=size,
        version_id=valid_identifier(line["version_id"], 1024),
        etag=valid_identifier(line["etag"], 255),
        integrity=line["integrity"],
        retain_until=_retention(line["retain_until"]),
        delivered_at=instant_of(line["delivered_at"]),
        manifest=manifest,
    )


def _retention(until: Any) -> datetime | None:
    if until is None:
        return None
    if not isinstance(until, str):
        raise Unclear("It has no retention.")
    return instant_of(until)


def _irregularity(line: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row."""
    kind, at = line["kind"], line["at"]
    if not isinstance(kind, str) or not isinstance(at, str) or len(kind) > 40:
        raise Unclear("An irregularity has no kind or instant.")
    facts = {name: value for name, value in line.items() if name not in {"type", "kind", "at"}}
    return {"kind": kind, "at": instant_of(at), "facts": facts}
