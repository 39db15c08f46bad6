"""Reads a CSV report or a workbook as rows of text for display, and compares the rows of two."""

import csv
import io
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher

from anaphora.deliveries import files
from anaphora.reports.content_types import XLSX
from anaphora.reports.models import Report
from anaphora.reports.text_encoding import decode
from anaphora.timeline import previews

MAX_ROWS = 500
MAX_COLUMNS = 60
_MAX_BYTES = 2 * 1024**2
_SAMPLE_SIZE = 10_000
"""Number of characters used to detect the delimiter."""


@dataclass(frozen=True)
class Table:
    """The first rows and columns of a CSV file or a sheet. `complete` is True if these are all."""

    head: list[str]
    rows: list[list[str]]
    complete: bool
    title: str = ""
    """The name of the sheet; empty for a CSV file."""


TABULAR = {"text/csv", XLSX}


def read_tables(report: Report) -> tuple[list[Table], int]:
    """Read a report of a TABULAR type: one table, or the first sheets, and how many more sheets there are.

    Raises files.Unavailable and previews.RenderError.
    """
    if report.content_type != XLSX:
        return [read_csv(report)], 0
    found = previews.read_sheets(report, MAX_ROWS + 1, MAX_COLUMNS)
    sheets = [
        Table(next(iter(each["rows"]), []), each["rows"][1:], each["complete"], each["title"])
        for each in found["sheets"]
    ]
    return sheets, found["more"]


def read_csv(report: Report) -> Table:
    """Read a CSV report and detect its encoding and delimiter. Raises files.Unavailable."""
    with files.opened(report) as source:
        data = source.read(_MAX_BYTES + 1)
    text = decode(data[:_MAX_BYTES])
    complete = len(data) <= _MAX_BYTES
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text[:_SAMPLE_SIZE])):
            if len(rows) > MAX_ROWS:
                complete = False
                break
            complete = complete and len(row) <= MAX_COLUMNS
            rows.append(row[:MAX_COLUMNS])
    except csv.Error:  # such as a field of more than 128 KB
        complete = False
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    return Table(rows[0] if rows else [], rows[1:], complete)


def _delimiter(sample: str) -> str:
    """Return the delimiter with which most rows have the same number of columns; of equals, the one with more columns.

    csv.Sniffer is not used, because it also guesses the quoting style from the first rows and misreads later rows.
    """

    def score(character: str) -> tuple[int, int]:
        widths: Counter[int] = Counter()
        with suppress(csv.Error):
            widths.update(map(len, csv.reader(io.StringIO(sample, newline=""), delimiter=character)))
        return max(((number, width) for width, number in widths.items() if width > 1), default=(0, 0))

    return max(",;\t|", key=score)


def mark_changes(one: Table, other: Table) -> list[list[list[tuple[str, bool]]]]:
    """Return the rows of both tables, including the heads. Each cell is paired with True if it differs in the other.

    Equal rows are matched first, so that an inserted row is one change. The rows between are compared in order.
    """
    rows = [[tuple(row) for row in (each.head, *each.rows)] for each in (one, other)]
    matched: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for _, start, end, other_start, other_end in SequenceMatcher(None, rows[0], rows[1], autojunk=False).get_opcodes():
        for left, right in zip(range(start, end), range(other_start, other_end), strict=False):
            matched[0][left], matched[1][right] = right, left

    def at(side: int, row: int, column: int) -> str | None:
        found = matched[side].get(row)
        there = rows[1 - side][found] if found is not None else ()
        return there[column] if column < len(there) else None

    return [
        [
            [(cell, at(side, row, column) != cell) for column, cell in enumerate(cells)]
            for row, cells in enumerate(rows[side])
        ]
        for side in (0, 1)
    ]
