import io
import json
import zipfile

import pytest

from anaphora.reports.content_types import (
    HEAD_SIZE,
    KNOWN_KINDS,
    UNKNOWN,
    describe_risk,
    detect_content_type,
    extension,
)
from tests.support.samples import MAKERS


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return target.getvalue()


def opendocument(kind: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        archive.writestr("content.xml", "<x/>")
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"\x7fELF\x02", "a.pdf"), (b"MZ\x90\0", "a"), (b"#!/bin/sh\n", "a.txt"), (b"alert(1)", "a.js"), (b"x", "a.Ps1")],
)
def test_programs_and_scripts_are_detected(content: bytes, name: str) -> None:
    assert describe_risk(content, name)
    assert not describe_risk(b"%PDF-1.7", "a.pdf")
    assert not describe_risk(b"MZ;Umsatz\n1;2\n", "a.csv")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["", "report.bin", "report.pdf", "report.csv"])
def test_real_files_are_recognized_by_their_content(kind: str, name: str) -> None:
    wanted, make = MAKERS[kind]
    assert detect_content_type(make(7)[:HEAD_SIZE], name) == wanted


@pytest.mark.parametrize(
    ("content", "name", "wanted"),
    [
        ("a;b\n1;2\n".encode("utf-16"), "", "text/csv"),
        ("Straße;Umsatz\nA;1\n".encode("latin-1"), "", "text/csv"),
        (b"one column\n1\n2\n", "a.csv", "text/csv"),
        (b"one column\n1\n2\n", "a.txt", "text/plain"),
        (b"a,b\n1,2,3\n", "", "text/plain"),
        (b"words, and more words.\nAnother line.\n", "a.md", "text/markdown"),
        (b"<!-- made --><?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x'><svg:svg/>", "", "image/svg+xml"),
        (b"\xef\xbb\xbf  <html>", "", "text/html"),
        (b"<note/>", "a.xml", "application/xml"),
        (b'{"a": 1', "a.json", "text/plain"),
        (b"[1, 2]", "", "application/json"),
        (b"7", "a.json", "text/plain"),
        (b"[" * 5000 + b"]" * 5000, "", "application/json"),
        (json.dumps([{"a": 1}] * 20_000).encode()[:HEAD_SIZE], "", "application/json"),
        (b"PK\x05\x06" + b"\0" * 18, "", "application/zip"),
        (b"\x00\x01", "report.pdf", UNKNOWN),
        (b"\x00\x01", "report.parquet", UNKNOWN),
        ("Preis;€ 5 – “gut”\nx;y\n".encode("cp1252"), "", "text/csv"),
        ("日付;売上\n三月一日;１２３\n".encode("shift_jis") * 3, "", "text/csv"),
        ("日付,売上\n三月一日,１２３\n".encode("shift_jis") * 3, "umsatz.csv", "text/csv"),
        ("Дата;Продажи\nМарт;Сумма\n".encode("cp1251") * 3, "", "text/csv"),
        (b"a line of words\n", "", "text/plain"),
        (b"# Title\n\nWords.\n", "a.md", "text/markdown"),
        (b"<?xml version='1.0'?><note/>", "", "application/xml"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "", "image/webp"),
        (b"GIF89a\x01\0", "a.png", "image/gif"),
        (b"\0\0\0 ftypavif\0\0\0\0", "", "image/avif"),
        (b"%!PS-Adobe-3.0\n", "a.eps", "application/postscript"),
        (b"PAR1\x15\x04\0\0", "", "application/vnd.apache.parquet"),
        (zipped("word/document.xml"), "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (
            zipped("ppt/presentation.xml"),
            "",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ),
        (opendocument("spreadsheet"), "a.ods", "application/vnd.oasis.opendocument.spreadsheet"),
        (("x" * (HEAD_SIZE - 1) + "ü").encode()[:HEAD_SIZE], "a.txt", "text/plain"),
        (("a,b\n" * HEAD_SIZE).encode()[:HEAD_SIZE], "", "text/csv"),
    ],
)
def test_kinds_are_distinguished(content: bytes, name: str, wanted: str) -> None:
    assert detect_content_type(content, name) == wanted


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
def test_the_extension_fits_the_content(type_: str, name: str, wanted: str) -> None:
    assert extension(type_, name) == wanted


def test_every_kind_has_a_sample() -> None:
    assert {made for made, _ in MAKERS.values()} == set(KNOWN_KINDS)
