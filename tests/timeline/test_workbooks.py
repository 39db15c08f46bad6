"""Workbooks as tables: the values of their cells, and the limits for malicious files."""

import io
import time
import zipfile
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import openpyxl
import pytest
from django.test import Client

from anaphora.reports.content_types import XLSX
from anaphora.reports.models import Report
from anaphora.timeline import previews, tables
from tests.support.factories import NOON, make_report

pytestmark = pytest.mark.django_db


def workbook(fill: Callable[[Any], Any]) -> bytes:
    book, target = openpyxl.Workbook(), io.BytesIO()
    fill(book)
    book.save(target)
    return target.getvalue()


def report_of(content: bytes, **changes: Any) -> Report:
    report = make_report(content, filename="figures.xlsx", **changes)
    assert report.content_type == XLSX
    return report


def rewritten(content: bytes, part: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the workbook with one of its parts changed."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        parts = {name: source.read(name) for name in source.namelist()}
        parts[part] = change(parts.get(part, b""))
        for name, text in parts.items():
            archive.writestr(name, text)
    return target.getvalue()


def simple() -> bytes:
    return workbook(lambda book: book.active.append(["a", "b"]))


SHEET = "xl/worksheets/sheet1.xml"


def test_cells_are_shown_as_a_spreadsheet_would() -> None:
    def fill(book: Any) -> None:
        sheet = book.active
        sheet.title = "Regions"
        sheet.append(["Region", "Revenue", "Share", "Day", "At", "Open", "Sum"])
        sheet.append(["Süd & <b>", 1234.5, 0.125, date(2026, 3, 1), datetime(2026, 3, 1, 6, 30), True, "=B2*2"])
        sheet["C2"].number_format = "0.0%"
        sheet["D2"].number_format = "yyyy-mm-dd"
        sheet.append([None, 0.1 + 0.2, 1, None, None, False])
        book.create_sheet("Hidden").sheet_state = "hidden"
        for number in range(6):
            book.create_sheet(f"Sheet {number}").append([number])

    found, more = tables.read_tables(report_of(workbook(fill)))
    assert [table.title for table in found] == ["Regions", "Sheet 0", "Sheet 1", "Sheet 2", "Sheet 3"]
    assert more == 2
    assert found[0].head == ["Region", "Revenue", "Share", "Day", "At", "Open", "Sum"]
    assert found[0].rows == [
        ["Süd & <b>", "1234.5", "12.5%", "2026-03-01", "2026-03-01 06:30:00", "TRUE", ""],
        ["", "0.3", "1", "", "", "FALSE", ""],
    ]
    assert found[0].complete
    assert (found[1].head, found[1].rows) == (["0"], [])


def test_the_page_shows_the_sheets_and_escapes_them(admin_client: Client) -> None:
    def fill(book: Any) -> None:
        book.active.append(["<script>", "b"])
        book.create_sheet("Empty")

    report_of(workbook(fill))
    page = admin_client.get("/timeline/sales/").content.decode()
    assert "&lt;script&gt;</th>" in page
    assert "This sheet is empty." in page


def test_long_and_wide_sheets_are_cut_off() -> None:
    def fill(book: Any) -> None:
        for number in range(600):
            book.active.append([f"{number}:{column}" for column in range(70)])

    (table,), _ = tables.read_tables(report_of(workbook(fill)))
    assert (len(table.rows), len(table.head), table.complete) == (500, 60, False)
    assert table.rows[-1][-1] == "500:59"


def test_a_cell_in_the_last_row_and_column_is_no_problem() -> None:
    def fill(book: Any) -> None:
        book.active["A1"] = "first"
        book.active["XFD1048576"] = "last"

    (table,), _ = tables.read_tables(report_of(workbook(fill)))
    assert (table.head, table.rows, table.complete) == (["first"], [], False)


def test_long_cells_are_cut_off() -> None:
    (table,), _ = tables.read_tables(report_of(workbook(lambda book: book.active.append(["x" * 30_000]))))
    assert table.head == ["x" * 500]


def test_changed_rows_are_marked_and_an_inserted_row_is_one_change(admin_client: Client) -> None:
    rows = [["region", "revenue"], ["north", 1], ["south", 2], ["west", 3]]
    for number, inserted in enumerate(([], [["east", 9]])):
        book, target = openpyxl.Workbook(), io.BytesIO()
        sheet: Any = book.active
        for row in rows[:2] + inserted + rows[2:]:
            sheet.append(row)
        book.save(target)
        report_of(target.getvalue(), rendered_at=NOON + timedelta(days=number))
    page = admin_client.get("/timeline/sales/compare/?from=20260301T120000Z&to=20260302T120000Z").content.decode()
    assert "The first sheets are compared." in page
    assert page.count("<mark>") == 2
    assert "<mark>east</mark>" in page


def billion_laughs(part: bytes) -> bytes:
    entities = b"".join(b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10) for n in range(1, 10))
    declared = b'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY e0 "ha">' + entities + b"]>"
    return declared + part.partition(b"?>")[2].replace(b"</sheetData>", b"<row><c><v>&e9;</v></c></row></sheetData>")


def many_strings(part: bytes) -> bytes:
    return b"<sst>" + b"<si><t>x</t></si>" * 4_000_000 + b"</sst>"


def endless_row(part: bytes) -> bytes:
    return part.replace(b"</row>", b'<c t="inlineStr"><is><t>x</t></is></c>' * 5_000_000 + b"</row>", 1)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (SHEET, billion_laughs),
        ("xl/workbook.xml", lambda part: b"<" * 1000),
        ("xl/sharedStrings.xml", many_strings),
        pytest.param("xl/styles.xml", lambda part: b" " * 100_000_000 + part, marks=pytest.mark.heavy),
        pytest.param(SHEET, endless_row, marks=pytest.mark.heavy),
        (SHEET, lambda part: part[: len(part) // 2]),
        ("xl/workbook.xml", lambda part: part.replace(b"rId1", b"rId99")),
    ],
    ids=["billion laughs", "no XML", "strings", "large part", "endless row", "cut off", "no such sheet"],
)
def test_a_hostile_workbook_causes_a_message(admin_client: Client, part: str, change: Callable[[bytes], bytes]) -> None:
    report = report_of(rewritten(simple(), part, change))
    began = time.monotonic()
    with pytest.raises(previews.RenderError):
        tables.read_tables(report)
    assert time.monotonic() - began < previews.TIMEOUT_SECONDS + 5
    page = admin_client.get("/timeline/sales/").content.decode()
    assert "It cannot be displayed as a table:" in page
