"""What all commands share: output that deceives no terminal, and a sentence where the database is at fault."""

import sys
from typing import Any, TextIO

from django.core.management.base import BaseCommand, OutputWrapper
from django.db import DatabaseError, OperationalError

from anaphora.foreign_text import words

_NO_TABLE_OR_COLUMN = {"42P01", "42703"}
"""SQLSTATE of undefined_table and undefined_column (PostgreSQL documentation, appendix A)."""

_CORRUPT = {"SQLITE_NOTADB", "SQLITE_CORRUPT", "file is not a database", "database disk image is malformed"}
"""Names of sqlite3's errors, and what it says where it gives no name."""

MIGRATE = "The database lacks tables of this version. Run: python manage.py migrate"


def printable(text: str) -> str:
    """Return `text` with everything that isn't printed written as an escape, such as \\x1b, but for line ends and tabs.

    File names and object keys may hold what a terminal obeys: colours, other titles, hidden lines.
    """
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def one_line(text: str) -> str:
    """Return `text` with line ends and tabs as escapes, too: no name can pretend to be two lines."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class _Output(OutputWrapper):
    """Writes what is printable; `progress` alone goes back to the beginning of the line."""

    def write(  # type: ignore[override]
        self, msg: str = "", style_func: Any = None, ending: str | None = None
    ) -> None:
        super().write(printable(msg), style_func, ending)

    def progress(self, text: str, *, last: bool = False) -> None:
        self._out.write(f"\r{printable(text)}" + ("\n" if last else ""))  # type: ignore[attr-defined]
        self.flush()


class Command(BaseCommand):
    """A command whose output is printable, whatever the names in it."""

    stdout: _Output
    stderr: _Output

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any) -> None:
        super().__init__(stdout, stderr, **options)
        style = self.stderr.style_func
        self.stdout, self.stderr = _Output(stdout or sys.stdout), _Output(stderr or sys.stderr)
        self.stderr.style_func = style

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command, on the streams that were given."""
        if stream := options.pop("stdout", None):
            self.stdout = _Output(stream)
        if stream := options.pop("stderr", None):
            self.stderr = _Output(stream)
        return super().execute(*args, **options)


def database_problem(error: DatabaseError) -> str | None:
    """Say in one sentence what is wrong with the database and what to do; None where it is none of its own making.

    What the driver says names host, port and user, never the password.
    """
    said = words(str(error), 300)
    if getattr(error.__cause__, "sqlstate", None) in _NO_TABLE_OR_COLUMN or said.startswith("no such "):
        return MIGRATE
    if said in _CORRUPT or getattr(error.__cause__, "sqlite_errorname", "") in _CORRUPT:
        return (
            f"The database file is damaged or no SQLite database: {said}. See which file DATABASE_URL names; restore "
            "it from a backup."
        )
    if isinstance(error, OperationalError):
        return f"The database can't be used: {said}. See that it runs, and what DATABASE_URL says."
    return None
