"""Writes many rows with one statement, and returns which of them are new.

On PostgreSQL, many rows are passed as arrays, one per column, which the statement reads as a table; rows that are known
to be new are copied, which is faster. A few rows, and rows inserted on SQLite, are passed as values, which is faster
there. Updates on SQLite read a JSON array.

Django's `bulk_update()` builds one CASE of all rows for each field, which takes longer than the uploads whose outcomes
it writes. Its `bulk_create()` takes longer than parsing the manifest that a rebuild restores, and does not return which
rows are new. Requires SQLite 3.35.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection as database
from django.db import models

_T = TypeVar("_T")

_FEW = 4
"""Rows. Arrays of so few rows are slower than values."""

_PARAMETERS = 30_000
"""Per statement. SQLite allows 32,766, PostgreSQL 65,535."""


def update_rows(model: type[models.Model], rows: list[dict[str, Any]]) -> None:
    """Set the fields of each row to its values. All rows have the same keys, one of them the primary key `id`.

    Rows that do not exist are ignored.
    """
    if not rows:
        return
    names = tuple(rows[0])
    with database.cursor() as cursor:
        cursor.execute(_update_from_table(model, names), _table(model, names, rows))


def insert_rows(
    model: type[models.Model], rows: list[dict[str, Any]], *, returning: str = "id", **same: Any
) -> set[Any]:
    """Insert rows, except those that violate a unique constraint; return the field `returning` of the new ones.

    `same` are values shared by all rows. Values and keys are as in `update_rows()`. Other fields get their default,
    except the primary key, which is given or created by the database.
    """
    return NewRows(model, rows, returning=returning, **same).insert() if rows else set()


class NewRows:
    """Rows for `insert_rows()`, already converted. Another thread can create them: it does not use the connection.

    With `all_new`, the caller expects that no row violates a unique constraint, and the rows contain the field
    `returning`. PostgreSQL then raises IntegrityError for such a row, instead of leaving it out.
    """

    def __init__(
        self,
        model: type[models.Model],
        rows: list[dict[str, Any]],
        *,
        returning: str = "id",
        all_new: bool = False,
        **same: Any,
    ) -> None:
        names = tuple(rows[0])
        same |= {name: default() for name, default in _defaults(model, frozenset(names) | frozenset(same))}
        shared = tuple(same)
        insert = _insert(model, shared + names, returning)
        self._copied: tuple[str, str, set[Any]] | None = None
        self._statements: list[tuple[str, list[Any], list[dict[str, Any]]]] = []
        self._new = insert.new
        if all_new and database.vendor == "postgresql":
            content = _lines(_columns(model, names, rows), _columns(model, shared, [same]))
            self._copied = insert.copy, content, {row[returning] for row in rows}
            return
        if len(rows) > _FEW and database.vendor == "postgresql":
            parameters = [*_insert(model, shared, returning).values([same]), *_table(model, names, rows)]
            self._statements.append((f"{insert.start} {_select(model, names, shared)} {insert.end}", parameters, rows))
            return
        for part in batched([same | each for each in rows] if same else rows, insert.at_once):
            values = ", ".join([insert.row] * len(part))
            self._statements.append((f"{insert.start} VALUES {values} {insert.end}", insert.values(part), part))

    def insert(self) -> set[Any]:
        """Insert the rows; return the new ones."""
        new = set[Any]()
        with database.cursor() as cursor:
            if self._copied:
                statement, content, new = self._copied
                with database.wrap_database_errors, cursor.copy(statement) as copy:
                    copy.write(content)
            for statement, parameters, rows in self._statements:
                cursor.execute(statement, parameters)
                new |= self._new(cursor, rows)
        return new


def batched(values: list[_T], size: int) -> Iterator[list[_T]]:
    """Yield parts of a list, each of `size` but the last."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


# Identifiers in the statements come from the models.


@cache
def _update_from_table(model: type[models.Model], names: tuple[str, ...]) -> str:
    fields, table = _fields(model, names), _quoted(model._meta.db_table)
    changes = ", ".join(
        f"{_quoted(each.column)} = new.{_quoted(name)}" for name, each in fields.items() if name != "id"
    )
    return f"UPDATE {table} SET {changes} FROM {_source(model, names)} WHERE {table}.id = new.id"  # noqa: S608


class _Insert:
    """The parts of a statement that inserts rows; built once for a model and names of its fields."""

    def __init__(self, model: type[models.Model], names: tuple[str, ...], returning: str) -> None:
        fields, key = _fields(model, names), _fields(model, (returning,))[returning]
        columns = ", ".join(_quoted(each.column) for each in fields.values())
        self.start = f"INSERT INTO {_quoted(model._meta.db_table)} ({columns})"
        self.copy = f"COPY {_quoted(model._meta.db_table)} ({columns}) FROM STDIN"
        self.row = f"({', '.join(['%s'] * len(names))})"
        self.end = f"ON CONFLICT DO NOTHING RETURNING {_quoted(key.column)}"
        self.at_once = _PARAMETERS // max(len(names), 1)
        self._returning, self._convert = returning, key.to_python
        self._prepare = [(name, each.get_db_prep_save) for name, each in fields.items()]

    def values(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Return the converted values of all rows in one list."""
        return [prepare(row[name], database) for row in rows for name, prepare in self._prepare]

    def new(self, cursor: Any, rows: list[dict[str, Any]]) -> set[Any]:
        """Return which of the rows are new. On SQLite, `rowcount` is only set after all results are read."""
        if cursor.rowcount == len(rows) and self._returning in rows[0]:
            return {row[self._returning] for row in rows}
        return {self._convert(value) for (value,) in cursor.fetchall()}


_insert = cache(_Insert)


@cache
def _select(model: type[models.Model], names: tuple[str, ...], shared: tuple[str, ...]) -> str:
    values = ", ".join([*("%s" for _ in shared), *(f"new.{_quoted(name)}" for name in names)])
    return f"SELECT {values} FROM {_source(model, names)}"  # noqa: S608


def _source(model: type[models.Model], names: tuple[str, ...]) -> str:
    """Return the rows of the parameters as a table."""
    if database.vendor == "postgresql":
        # Without the length of a type: a cast would truncate longer values, which the column refuses.
        types = [str(each.db_type(database)).partition("(")[0] for each in _fields(model, names).values()]
        arrays, columns = ", ".join(f"%s::{each}[]" for each in types), ", ".join(map(_quoted, names))
        return f"unnest({arrays}) AS new({columns})"
    selected = ", ".join(f"json_extract(value, '$.{name}') AS {_quoted(name)}" for name in names)
    return f"(SELECT {selected} FROM json_each(%s)) AS new"  # noqa: S608


def _table(model: type[models.Model], names: tuple[str, ...], rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as parameters."""
    if database.vendor == "postgresql":
        return [_array(each) for each in _columns(model, names, rows)]
    prepare = [(name, each.get_db_prep_save) for name, each in _fields(model, names).items()]
    return [json.dumps([{name: convert(row[name], database) for name, convert in prepare} for row in rows])]


def _columns(model: type[models.Model], names: tuple[str, ...], rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Return the values of each column. PostgreSQL parses them, except JSON, as Python formats them."""
    columns = {name: [row[name] for row in rows] for name in names}
    for name, each in _fields(model, names).items():
        if isinstance(each, models.JSONField):
            columns[name] = [None if value is None else json.dumps(value) for value in columns[name]]
    return list(columns.values())


def _array(values: list[Any]) -> str:
    """Return values in the text format of PostgreSQL's arrays."""
    text = '","'.join(map(str, values))
    if type(None) not in {*map(type, values)} and "\\" not in text and text.count('"') == 2 * len(values) - 2:
        return f'{{"{text}"}}'
    texts = [None if each is None else str(each).replace("\\", r"\\").replace('"', r"\"") for each in values]
    return "{" + ",".join(["NULL" if each is None else f'"{each}"' for each in texts]) + "}"


# Faster than str().
_FORMATS: dict[type, Callable[[Any], str]] = {datetime: datetime.isoformat, UUID: attrgetter("hex")}
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _lines(columns: list[list[Any]], shared: list[list[Any]]) -> str:
    """Return rows in the text format of COPY. Each line begins with the values of `shared`."""
    start = "".join([f"{value}\t" for column in shared for value in _copied(column)])
    lines = map("\t".join, zip(*map(_copied, columns), strict=True))
    return start + f"\n{start}".join(lines) + "\n"


def _copied(values: list[Any]) -> list[str]:
    """Return the values of a column in the text format of COPY."""
    types = {*map(type, values)}
    texts = list(map(_FORMATS.get(type(values[0]), str) if len(types) == 1 else str, values))
    all_text = "".join(texts)
    if any(each in all_text for each in "\\\t\n\r"):
        texts = [each.translate(_ESCAPES) for each in texts]
    if type(None) in types:
        texts = [r"\N" if value is None else text for value, text in zip(values, texts, strict=True)]
    return texts


@cache
def _defaults(model: type[models.Model], given: frozenset[str]) -> list[tuple[str, Callable[[], Any]]]:
    """Return the fields that are not given and cannot be NULL, each with a function that returns its default."""
    missing = [each for each in model._meta.concrete_fields if each.name not in given]
    return [(each.name, each.get_default) for each in missing if not each.null and not each.primary_key]


def _fields(model: type[models.Model], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: model._meta.get_field(name) for name in names}


def _quoted(name: str) -> str:
    return database.ops.quote_name(name)
