"""Base class of all commands: it escapes control characters in the output. Also explains database errors."""

import sys
from typing import Any, TextIO

from django.core.management.base import BaseCommand, OutputWrapper
from django.db import DatabaseError, OperationalError

from anaphora.foreign_text import clean_line

_NO_TABLE_OR_COLUMN = {"42P01", "42703"}
"""SQLSTATE of undefined_table and undefined_column (PostgreSQL documentation, appendix A)."""

_CORRUPT = {"SQLITE_NOTADB", "SQLITE_CORRUPT", "file is not a database", "database disk image is malformed"}
"""Error names of sqlite3, and the messages of errors without a name."""

MIGRATE = "The database is not migrated to this version. Run: python manage.py migrate"


def printable(text: str) -> str:
    """Return `text` with unprintable characters escaped, for example as \\x1b. Line feeds and tabs are kept.

    File names and object keys can contain terminal escape sequences.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text
    )


def one_line(text: str) -> str:
    """Return `text` like `printable`, with line feeds and tabs escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class _Output(OutputWrapper):
    """Escapes unprintable characters. Only `progress` may return to the start of the line."""

    def write(  # type: ignore[override]
        self, msg: str = "", style_func: Any = None, ending: str | None = None
    ) -> None:
        super().write(printable(msg), style_func, ending)

    def progress(self, text: str, *, last: bool = False) -> None:
        self._out.write(f"\r{printable(text)}" + ("\n" if last else ""))  # type: ignore[attr-defined]
        self.flush()


class Command(BaseCommand):
    """A command whose output contains no terminal escape sequences."""

    stdout: _Output
    stderr: _Output

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any) -> None:
        super().__init__(stdout, stderr, **options)
        style = self.stderr.style_func
        self.stdout, self.stderr = _Output(stdout or sys.stdout), _Output(stderr or sys.stderr)
        self.stderr.style_func = style

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command with the streams passed to `call_command`."""
        if stream := options.pop("stdout", None):
            self.stdout = _Output(stream)
        if stream := options.pop("stderr", None):
            self.stderr = _Output(stream)
        return super().execute(*args, **options)


def database_problem(error: DatabaseError) -> str | None:
    """Return what is wrong with the database and what to do, or None if the error is a bug of this project.

    The message of the driver contains host, port and user, but never the password.
    """
    message = clean_line(str(error), 300)
    if getattr(error.__cause__, "sqlstate", None) in _NO_TABLE_OR_COLUMN or message.startswith("no such "):
        return MIGRATE
    if message in _CORRUPT or getattr(error.__cause__, "sqlite_errorname", "") in _CORRUPT:
        return (
            f"The database file is damaged or not an SQLite database: {message}. Check the path in DATABASE_URL, or "
            "restore the file from a backup."
        )
    if isinstance(error, OperationalError):
        return f"The database cannot be used: {message}. Check that it is running and that DATABASE_URL is correct."
    return None
