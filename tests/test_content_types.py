import json

import pytest

from anaphora.reports.content_types import HEAD, KINDS, UNKNOWN, content_type, ending
from tests.samples import MAKERS


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["", "report.bin", "report.pdf", "report.csv"])
def test_real_files_are_known_by_their_content(kind: str, name: str) -> None:
    wanted, make = MAKERS[kind]
    assert content_type(make(7)[:HEAD], name) == wanted


@pytest.mark.parametrize(
    ("content", "name", "wanted"),
    [
        ("a;b\n1;2\n".encode("utf-16"), "", "text/csv"),
        ("Straße;Umsatz\nA;1\n".encode("latin-1"), "", "text/csv"),
        (b"one column\n1\n2\n", "a.csv", "text/csv"),
        (b"one column\n1\n2\n", "a.txt", "text/plain"),
        (b"a,b\n1,2,3\n", "", UNKNOWN),
        (b"words, and more words.\nAnother line.\n", "a.md", "text/markdown"),
        (b"<!-- made --><?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x'><svg:svg/>", "", "image/svg+xml"),
        (b"\xef\xbb\xbf  <html>", "", "text/html"),
        (b"<note/>", "a.xml", "application/xml"),
        (b'{"a": 1', "a.json", UNKNOWN),
        (b"[1, 2]", "", "application/json"),
        (b"7", "a.json", UNKNOWN),
        (b"[" * 5000 + b"]" * 5000, "", "application/json"),
        (json.dumps([{"a": 1}] * 20_000).encode()[:HEAD], "", "application/json"),
        (b"PK\x05\x06" + b"\0" * 18, "", "application/zip"),
        (b"\x00\x01", "report.pdf", UNKNOWN),
        (b"\x00\x01", "report.parquet", UNKNOWN),
        (("x" * (HEAD - 1) + "ü").encode()[:HEAD], "a.txt", "text/plain"),
        (("a,b\n" * HEAD).encode()[:HEAD], "", "text/csv"),
    ],
)
def test_kinds_are_told_apart(content: bytes, name: str, wanted: str) -> None:
    assert content_type(content, name) == wanted


@pytest.mark.parametrize(
    ("type_", "name", "wanted"),
    [
        ("image/jpeg", "a.JPEG", ".jpeg"),
        ("image/jpeg", "a.png", ".jpg"),
        ("text/plain", "a.log", ".log"),
        ("text/plain", "a.b c", ""),
        ("application/pdf", "", ".pdf"),
    ],
)
def test_an_ending_fits_the_content(type_: str, name: str, wanted: str) -> None:
    assert ending(type_, name) == wanted


def test_every_kind_has_a_sample() -> None:
    assert {made for made, _ in MAKERS.values()} == set(KINDS)
