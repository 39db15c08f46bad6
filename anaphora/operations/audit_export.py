"""The audit trail as CSV and as JSON Lines, row by row, so that memory does not grow with the number of entries."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC

from anaphora.operations.audit_models import AuditEntry

COLUMNS = ("at", "actor", "actor_kind", "actor_id", "address", "via", "action", "object_type", "object_id", "object")

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The first characters of a formula. The last four are full-width forms, which some spreadsheets accept as well."""


class _Echo:
    """A file whose `write` returns the text."""

    def write(self, text: str) -> str:
        return text


def as_csv(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield lines of CSV with a header. A cell that a spreadsheet would run as a formula begins with an apostrophe."""
    writer = csv.writer(_Echo())
    yield writer.writerow([*COLUMNS, "details"])
    for entry in entries:
        values = _values(entry)
        cells = [*values.values(), json.dumps(entry.details, ensure_ascii=False) if entry.details else ""]
        yield writer.writerow([f"'{cell}" if _is_formula(cell) else cell for cell in cells])


def _is_formula(cell: str) -> bool:
    return cell.lstrip().startswith(_FORMULA) or cell.startswith(("\t", "\r"))


def as_json_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield one JSON object per line. Times are in UTC."""
    for entry in entries:
        yield json.dumps({"id": entry.pk, **_values(entry), "details": entry.details}, ensure_ascii=False) + "\n"


def _values(entry: AuditEntry) -> dict[str, str]:
    values = {name: str(getattr(entry, name)) for name in COLUMNS}
    values["at"] = entry.at.astimezone(UTC).isoformat(timespec="milliseconds")
    return values


FORMATS: dict[str, tuple[Callable[[Iterable[AuditEntry]], Iterator[str]], str]] = {
    "csv": (as_csv, "text/csv; charset=utf-8"),
    "jsonl": (as_json_lines, "application/x-ndjson"),
}
"""The formats by file name extension: the function that writes the format, and its content type."""
