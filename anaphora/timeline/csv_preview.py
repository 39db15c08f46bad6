"""A CSV report as rows to show: what people see of it, not what programs make of it."""

import csv
import io
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher

from anaphora.deliveries import files
from anaphora.reports.models import Report
from anaphora.reports.text_encoding import decode

ROWS = 500
COLUMNS = 60
_BYTES = 2 * 1024**2
_SAMPLE = 10_000
"""Characters that tell what separates fields."""


@dataclass(frozen=True)
class Table:
    """The upper left part of a CSV file. `complete` says whether that is all of it."""

    head: list[str]
    rows: list[list[str]]
    complete: bool


def table(report: Report) -> Table:
    """Read a CSV report, in whatever encoding it has. Raises files.Unavailable."""
    with files.opened(report) as source:
        data = source.read(_BYTES + 1)
    text = decode(data[:_BYTES])
    complete = len(data) <= _BYTES
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text[:_SAMPLE])):
            if len(rows) > ROWS:
                complete = False
                break
            complete = complete and len(row) <= COLUMNS
            rows.append(row[:COLUMNS])
    except csv.Error:  # such as a field of more than 128 KB
        complete = False
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    return Table(rows[0] if rows else [], rows[1:], complete)


def _delimiter(sample: str) -> str:
    """Return what separates fields: the sign that gives most rows the same width, and the wider ones of equals.

    csv.Sniffer also guesses how quotes are written, from what comes first, and garbles those that come later.
    """

    def score(sign: str) -> tuple[int, int]:
        widths: Counter[int] = Counter()
        with suppress(csv.Error):
            widths.update(map(len, csv.reader(io.StringIO(sample, newline=""), delimiter=sign)))
        return max(((number, width) for width, number in widths.items() if width > 1), default=(0, 0))

    return max(",;\t|", key=score)


def marked(one: Table, other: Table) -> list[list[list[tuple[str, bool]]]]:
    """Return the rows of both, heads first; each cell with whether the other has something else there.

    Rows are matched by their content first, so that an inserted row is one change; what lies between matched rows is
    compared in order.
    """
    rows = [[tuple(row) for row in (each.head, *each.rows)] for each in (one, other)]
    facing: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for _, start, end, other_start, other_end in SequenceMatcher(None, rows[0], rows[1], autojunk=False).get_opcodes():
        for left, right in zip(range(start, end), range(other_start, other_end), strict=False):
            facing[0][left], facing[1][right] = right, left

    def at(side: int, row: int, column: int) -> str | None:
        found = facing[side].get(row)
        there = rows[1 - side][found] if found is not None else ()
        return there[column] if column < len(there) else None

    return [
        [
            [(cell, at(side, row, column) != cell) for column, cell in enumerate(cells)]
            for row, cells in enumerate(rows[side])
        ]
        for side in (0, 1)
    ]
