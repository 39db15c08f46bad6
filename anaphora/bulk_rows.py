"""Writes many rows by one statement, and tells which of them are new.

On PostgreSQL, many rows are arrays, one of each column, that the database reads as a table. Few rows, and rows that are
inserted on SQLite, are values of the statement: that takes less time there. Updates on SQLite read a JSON array.

Django's `bulk_update()` builds one CASE of all rows for each field, which takes longer than the uploads whose outcomes
are written. Its `bulk_create()` takes longer than reading the manifest that a rebuild writes down, and cannot tell
which rows are new. SQLite needs to be of version 3.35 or newer.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

from django.db import connection as database
from django.db import models

_T = TypeVar("_T")

_FEW = 4
"""Rows. A table of so few takes longer than values."""

_PARAMETERS = 30_000
"""Of one statement: SQLite allows 32,766, PostgreSQL 65,535."""


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
    """Insert rows, but those that would violate a unique constraint; return the new ones, by their field `returning`.

    `same` are values that all rows share. Values and keys are as in `update_rows()`; every field without a default of
    the database must be there.
    """
    return NewRows(model, rows, returning=returning, **same).insert() if rows else set()


class NewRows:
    """Rows for `insert_rows()`, as the database takes them. Another thread can prepare them, as nothing asks it yet."""

    def __init__(
        self, model: type[models.Model], rows: list[dict[str, Any]], *, returning: str = "id", **same: Any
    ) -> None:
        names, shared = tuple(rows[0]), tuple(same)
        insert = _insert(model, shared + names, returning)
        self._statements: list[tuple[str, list[Any], list[dict[str, Any]]]] = []
        self._new = insert.new
        if len(rows) > _FEW and database.vendor == "postgresql":
            parameters = [*_insert(model, shared, returning).values([same]), *_table(model, names, rows)]
            self._statements.append((f"{insert.start} {_select(model, names, shared)} {insert.end}", parameters, rows))
            return
        for part in batched([same | each for each in rows] if same else rows, insert.at_once):
            values = ", ".join([insert.row] * len(part))
            self._statements.append((f"{insert.start} VALUES {values} {insert.end}", insert.values(part), part))

    def insert(self) -> set[Any]:
        """Insert them; return the new ones."""
        new = set[Any]()
        with database.cursor() as cursor:
            for statement, parameters, rows in self._statements:
                cursor.execute(statement, parameters)
                new |= self._new(cursor, rows)
        return new


def batched(values: list[_T], size: int) -> Iterator[list[_T]]:
    """Yield parts of a list, each of `size` but the last."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


# Identifiers in the statements are the models' own.


@cache
def _update_from_table(model: type[models.Model], names: tuple[str, ...]) -> str:
    fields, table = _fields(model, names), _quoted(model._meta.db_table)
    changes = ", ".join(
        f"{_quoted(each.column)} = new.{_quoted(name)}" for name, each in fields.items() if name != "id"
    )
    return f"UPDATE {table} SET {changes} FROM {_source(model, names)} WHERE {table}.id = new.id"  # noqa: S608


class _Insert:
    """A statement that inserts rows, in parts; made once for a model and names of its fields."""

    def __init__(self, model: type[models.Model], names: tuple[str, ...], returning: str) -> None:
        fields, key = _fields(model, names), _fields(model, (returning,))[returning]
        columns = ", ".join(_quoted(each.column) for each in fields.values())
        self.start = f"INSERT INTO {_quoted(model._meta.db_table)} ({columns})"
        self.row = f"({', '.join(['%s'] * len(names))})"
        self.end = f"ON CONFLICT DO NOTHING RETURNING {_quoted(key.column)}"
        self.at_once = _PARAMETERS // max(len(names), 1)
        self._returning, self._convert = returning, key.to_python
        self._prepare = [(name, each.get_db_prep_save) for name, each in fields.items()]

    def values(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Return the values of all rows, one after the other, as the database takes them."""
        return [prepare(row[name], database) for row in rows for name, prepare in self._prepare]

    def new(self, cursor: Any, rows: list[dict[str, Any]]) -> set[Any]:
        """Return the new ones of rows. SQLite does not know their number before all of them are read."""
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
        # Without the length of a type: a cast would cut what is too long, and the column refuses it.
        types = [str(each.db_type(database)).partition("(")[0] for each in _fields(model, names).values()]
        arrays, columns = ", ".join(f"%s::{each}[]" for each in types), ", ".join(map(_quoted, names))
        return f"unnest({arrays}) AS new({columns})"
    selected = ", ".join(f"json_extract(value, '$.{name}') AS {_quoted(name)}" for name in names)
    return f"(SELECT {selected} FROM json_each(%s)) AS new"  # noqa: S608


def _table(model: type[models.Model], names: tuple[str, ...], rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as parameters."""
    if database.vendor == "postgresql":  # which reads all values as Python writes them
        return [_array([row[name] for row in rows]) for name in names]
    prepare = [(name, each.get_db_prep_save) for name, each in _fields(model, names).items()]
    return [json.dumps([{name: convert(row[name], database) for name, convert in prepare} for row in rows])]


def _array(values: list[Any]) -> str:
    """Return values as the text of an array of PostgreSQL."""
    text = '","'.join(map(str, values))
    if type(None) not in {*map(type, values)} and "\\" not in text and text.count('"') == 2 * len(values) - 2:
        return f'{{"{text}"}}'
    texts = [None if each is None else str(each).replace("\\", r"\\").replace('"', r"\"") for each in values]
    return "{" + ",".join(["NULL" if each is None else f'"{each}"' for each in texts]) + "}"


def _fields(model: type[models.Model], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: model._meta.get_field(name) for name in names}


def _quoted(name: str) -> str:
    return database.ops.quote_name(name)
