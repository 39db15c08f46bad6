"""Writes many rows by one statement: the rows are one parameter, a JSON array that the database reads as a table.

Django's `bulk_update()` builds one CASE of all rows for each field, which takes longer than the uploads whose outcomes
are written, and its `bulk_create()` takes longer than reading the manifest that a rebuild writes down.
"""

import json
from collections.abc import Iterable
from typing import Any

from django.db import connection as database
from django.db import models


def update_rows(model: type[models.Model], rows: list[dict[str, Any]]) -> None:
    """Set the fields of each row to its values. All rows have the same keys, one of them the primary key `id`.

    Rows that do not exist are ignored. SQLite needs to be of version 3.33 or newer.
    """
    if not rows:
        return
    fields = _fields(model, rows[0])
    columns = [_quoted(field.column) for name, field in fields.items() if name != "id"]
    table = _quoted(model._meta.db_table)
    changes = ", ".join(f"{column} = new.{column}" for column in columns)
    with database.cursor() as cursor:
        cursor.execute(
            # Identifiers are the models' own.
            f"UPDATE {table} SET {changes} FROM {_source(fields)} WHERE {table}.id = new.id",  # noqa: S608
            [_parameter(fields, rows)],
        )


def insert_rows(model: type[models.Model], rows: list[dict[str, Any]], **same: Any) -> None:
    """Insert rows, but those that would violate a unique constraint. `same` are values that all of them share.

    Values and keys are as in `update_rows()`; every field without a default of the database must be there.
    """
    if not rows:
        return
    fields, shared = _fields(model, rows[0]), _fields(model, same)
    names = ", ".join(_quoted(field.column) for field in [*fields.values(), *shared.values()])
    values = ", ".join([*(f"new.{_quoted(field.column)}" for field in fields.values()), *("%s" for _ in shared)])
    parameters = [field.get_db_prep_save(same[name], connection=database) for name, field in shared.items()]
    with database.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_quoted(model._meta.db_table)} ({names}) SELECT {values} FROM {_source(fields)} "  # noqa: S608
            "WHERE true ON CONFLICT DO NOTHING",  # SQLite takes ON for a part of a join without WHERE
            [*parameters, _parameter(fields, rows)],
        )


def _fields(model: type[models.Model], names: Iterable[str]) -> dict[str, Any]:
    return {name: model._meta.get_field(name) for name in names}


def _quoted(name: str) -> str:
    return database.ops.quote_name(name)


def _parameter(fields: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    if database.vendor == "postgresql":  # which reads all values as Python writes them
        columns = [(name, field.column) for name, field in fields.items()]
        values = [{column: row[name] for name, column in columns} for row in rows]
    else:
        prepared = [(name, field.column, field.get_db_prep_save) for name, field in fields.items()]
        values = [
            {column: prepare(row[name], connection=database) for name, column, prepare in prepared} for row in rows
        ]
    return json.dumps(values, default=str)


def _source(fields: dict[str, Any]) -> str:
    """Return the rows of the parameter as a table."""
    if database.vendor == "postgresql":
        typed = ", ".join(f"{_quoted(each.column)} {each.db_type(database)}" for each in fields.values())
        return f"jsonb_to_recordset(%s::jsonb) AS new({typed})"
    selected = ", ".join(
        f"json_extract(value, '$.{each.column}') AS {_quoted(each.column)}" for each in fields.values()
    )
    return f"(SELECT {selected} FROM json_each(%s)) AS new"  # noqa: S608
