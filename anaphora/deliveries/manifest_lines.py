"""Parses the lines of a manifest for a rebuild, and checks them like the metadata of objects.

Uses neither the store nor the database, so that a thread can parse while the previous lines are written.
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
"""Bytes of a line, including its end, plus one."""

_STEP = 3 * 1024**2
"""Bytes of lines per step: about 5,000 reports."""

_TEXTS = itemgetter(
    "key", "version_id", "etag", "sha256", "md5", "content_type", "dashboard", "title", "rendered_at", "ingested_at",
    "delivered_at", "filename", "report_id", "integrity",
)  # fmt: skip

_decode = json.JSONDecoder().raw_decode

_GRADES = frozenset(Integrity.values)


@dataclass
class Lines:
    """The parsed lines of one step."""

    found: list[Found] = field(default_factory=list)
    unclear: list[tuple[str, str]] = field(default_factory=list)
    """Keys of lines that cannot be used, each with the reason."""
    irregularities: list[dict[str, Any]] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    """The titles of dashboards, by slug."""


def read(file: BinaryIO, *, manifest: int, name: str, prefix: str) -> Iterator[Lines]:
    """Yield the lines after the header, a few thousand at a time.

    `manifest` is the primary key of the manifest, `name` its object key, `prefix` the key prefix of the interface.
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
        line = _decoded(text)
        if not isinstance(line, dict):
            raise Unclear("A line is not a JSON object.")
        kind = line.get("type")
        if kind == "report":
            key = str(line.get("key", name))
            found = _report(line, prefix, manifest)
            lines.found.append(found)
            if found.facts.title:
                lines.titles[found.facts.dashboard] = found.facts.title
        elif kind == "irregularity":
            lines.irregularities.append(_irregularity(line))
    except KeyError as error:
        lines.unclear.append((key, f"A manifest lists it, without {error.args[0]}."))
    except Unclear as error:
        lines.unclear.append((key, f"A manifest lists it: {error}"))
    except (ValueError, OverflowError, RecursionError) as error:
        lines.unclear.append((key, f"A manifest lists it: {clean_line(str(error), 200)}."))


def _decoded(text: bytes) -> Any:
    """Return the value of a line of JSON, faster than json.loads() of bytes. Raises ValueError."""
    line = text.decode().strip(" \t\r\n")
    value, end = _decode(line)
    if end != len(line):
        raise ValueError(f"Extra data: column {end + 1}")
    return value


def _report(line: dict[str, Any], prefix: str, manifest: int) -> Found:
    """Parse a line of type `report`. Raises Unclear, KeyError, ValueError, OverflowError."""
    try:
        "".join(_TEXTS(line))
    except TypeError as error:
        raise Unclear("A member is not text.") from error
    key, size, content_type = line["key"], line["size"], line["content_type"]
    if type(size) is not int or not 0 < size < 2**63:
        raise Unclear("It has no size.")
    if not (content_type.isprintable() and 0 < len(content_type) <= 127):
        raise Unclear("It has no content type.")
    if line["integrity"] not in _GRADES:
        raise Unclear("It has no grade of integrity.")
    if kind_of(prefix, key) != "report":
        raise Unclear("Not the key of a report.")
    rendered_at = instant_of(line["rendered_at"])
    facts = Described(
        report_id=UUID(line["report_id"]),
        dashboard=line["dashboard"],
        title=line["title"],
        rendered_at=rendered_at.replace(microsecond=0) if rendered_at.microsecond else rendered_at,
        ingested_at=instant_of(line["ingested_at"]),
        sha256=line["sha256"],
        md5=line["md5"],
        filename=line["filename"],
    )
    return Found(
        key=key,
        facts=checked(facts, prefix=prefix, key=key),
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
    """Return the values of a row of Irregularity."""
    kind, at = line["kind"], line["at"]
    if not isinstance(kind, str) or not isinstance(at, str) or len(kind) > 40:
        raise Unclear("An irregularity has no kind or instant.")
    facts = {name: value for name, value in line.items() if name not in {"type", "kind", "at"}}
    return {"kind": kind, "at": instant_of(at), "facts": facts}
