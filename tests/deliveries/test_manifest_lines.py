"""A line of a manifest passes the checks of an object's metadata, and a wrong one costs no other."""

import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from anaphora.deliveries import manifest_lines
from anaphora.deliveries.manifest_lines import Lines

SHA256 = "0123456789abcdef" * 4
NAME = "a/archive.manifests/2026/2026-03-01.jsonl"
KEY = "a/sales/2026/03/01/20260301T060000Z_0123456789abcdef.pdf"
LINE: dict[str, Any] = {
    "type": "report",
    "key": KEY,
    "version_id": "v1",
    "etag": "e1",
    "sha256": SHA256,
    "md5": SHA256[:32],
    "size": 34211,
    "content_type": "application/pdf",
    "dashboard": "sales",
    "title": "Umsätze & more",
    "rendered_at": "2026-03-01T06:00:00Z",
    "ingested_at": "2026-03-01T06:00:04.031337Z",
    "delivered_at": "2026-03-01T06:00:05.208113Z",
    "filename": "Sales März.pdf",
    "report_id": "5a0c1c3e-0000-4000-8000-000000000001",
    "retain_until": None,
    "integrity": "sha256",
}


def read(*lines: bytes | dict[str, Any]) -> Lines:
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (found,) = manifest_lines.read(io.BytesIO(b"\n".join(content)), manifest=7, name=NAME, prefix="a/")
    return found


def test_a_line_has_all_that_a_receipt_and_its_report_need() -> None:
    lines = read(LINE | {"retain_until": "2027-03-01T06:00:00+01:00"})
    assert lines.unclear == []
    assert lines.titles == {"sales": "Umsätze & more"}
    (found,) = lines.found
    assert (found.key, found.version_id, found.etag, found.size) == (KEY, "v1", "e1", 34211)
    assert (found.content_type, found.integrity, found.manifest) == ("application/pdf", "sha256", 7)
    assert found.retain_until == datetime(2027, 3, 1, 5, tzinfo=UTC)
    assert found.delivered_at == datetime(2026, 3, 1, 6, 0, 5, 208113, tzinfo=UTC)
    told = found.facts
    assert (told.report_id, told.dashboard, told.title) == (UUID(LINE["report_id"]), "sales", "Umsätze & more")
    assert (told.sha256, told.md5, told.filename) == (SHA256, SHA256[:32], "Sales März.pdf")
    assert told.rendered_at == datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert told.ingested_at == datetime(2026, 3, 1, 6, 0, 4, 31337, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        *(({name: None}, "not text") for name in LINE if name not in {"type", "size", "retain_until", "key"}),
        *(({name: 5}, "not text") for name in LINE if name not in {"type", "size", "retain_until", "key"}),
        *(({"size": size}, "no size") for size in (None, "5", 0, -1, 2**63, 1.5, True)),
        ({"retain_until": 5}, "no retention"),
        ({"retain_until": "2027-03-01T06:00:00"}, "no time zone"),
        ({"retain_until": ""}, "Invalid isoformat"),
        ({"content_type": ""}, "no content type"),
        ({"content_type": "a\n"}, "no content type"),
        ({"content_type": "a" * 128}, "no content type"),
        ({"integrity": "perfect"}, "integrity"),
        ({"sha256": "ab"}, "no digests"),
        ({"sha256": SHA256.upper()}, "no digests"),
        ({"sha256": "f" * 64}, "another key"),
        ({"md5": "f" * 31}, "no digests"),
        ({"dashboard": "stock"}, "another key"),
        ({"title": "a\0b"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"title": "a" * 201}, "title"),
        ({"filename": ""}, "name no file"),
        ({"filename": "../../etc/passwd"}, "name no file"),
        ({"filename": "a\\b"}, "name no file"),
        ({"filename": "a\n"}, "name no file"),
        ({"filename": "\udc80"}, "name no file"),
        ({"filename": "ü" * 128}, "name no file"),
        ({"report_id": "x"}, "badly formed"),
        ({"rendered_at": "2026-03-01T06:00:00"}, "no time zone"),
        ({"rendered_at": "2026-03-01T06:00:01Z"}, "another key"),
        ({"rendered_at": "0001-01-01T00:00:00+14:00"}, "out of range"),
        ({"rendered_at": "9999-12-31T23:59:59-14:00"}, "out of range"),
        ({"rendered_at": "2999-01-01T00:00:00Z"}, "rendered at 2999"),
        ({"ingested_at": "9999-12-31T23:59:59-14:00"}, "out of range"),
        ({"ingested_at": "2026-03-01"}, "no time zone"),
        ({"delivered_at": "soon"}, "Invalid isoformat"),
    ],
)
def test_a_line_that_cannot_be_made_out_says_why_and_costs_no_other(changes: dict[str, Any], why: str) -> None:
    lines = read(LINE | changes, LINE)
    assert [found.key for found in lines.found] == [KEY]
    ((key, told),) = lines.unclear
    assert key == KEY
    assert told.startswith("A manifest lists it: ")
    assert why in told


@pytest.mark.parametrize("name", [name for name in LINE if name not in {"type", "key"}])
def test_nothing_may_be_missing(name: str) -> None:
    lines = read({key: value for key, value in LINE.items() if key != name}, LINE)
    assert lines.unclear == [(KEY, f"A manifest lists it, without {name}.")]
    assert len(lines.found) == 1


@pytest.mark.parametrize(
    "key",
    [
        "a/../etc/2026/03/01/20260301T060000Z_0123456789abcdef.pdf",
        "sales/2026/03/01/20260301T060000Z_0123456789abcdef.pdf",
        f"{KEY}/more",
        f"{KEY}\n",
        "a/holiday.jpg",
    ],
)
def test_only_keys_of_reports_count(key: str) -> None:
    lines = read(LINE | {"key": key, "dashboard": "../etc"}, LINE)
    assert lines.unclear == [(key, "A manifest lists it: Not the key of a report.")]
    assert len(lines.found) == 1


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[" * 60_000, b"5", b"[]", b"{" + b" " * 70_000 + b"}"])
def test_what_is_no_json_object_is_told_by_the_name_of_the_manifest(line: bytes) -> None:
    lines = read(line, LINE)
    assert {key for key, _ in lines.unclear} == {NAME}
    assert len(lines.found) == 1


def test_types_that_it_does_not_know_are_passed_over() -> None:
    lines = read({"type": "greeting"}, {}, LINE)
    assert lines.unclear == []
    assert len(lines.found) == 1


def test_irregularities_are_kept_with_their_facts() -> None:
    line = {"type": "irregularity", "kind": "failed", "at": "2026-03-01T06:00:00Z", "dashboard": "sales"}
    lines = read(line, line | {"at": "soon"}, line | {"kind": 5}, line | {"kind": "a" * 41}, {"type": "irregularity"})
    at = datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert lines.irregularities == [{"kind": "failed", "at": at, "facts": {"dashboard": "sales"}}]
    assert len(lines.unclear) == 4


def test_memory_is_bounded_by_the_bytes_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(LINE).encode() + b"\n"
    monkeypatch.setattr(manifest_lines, "_STEP", 3 * len(text))
    steps = manifest_lines.read(io.BytesIO(text * 7), manifest=7, name=NAME, prefix="a/")
    assert [len(lines.found) for lines in steps] == [3, 3, 1]
