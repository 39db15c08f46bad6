"""Updates many rows, each to values of its own, by one statement.

Django's `bulk_update()` builds one CASE of all rows for each field, which takes longer than the uploads whose outcomes
it writes. Here the rows are one parameter, a JSON array that the database reads as a table.
"""

import json
from typing import Any

from django.db import connection as database
from django.db import models


def update_rows(model: type[models.Model], rows: list[dict[str, Any]]) -> None:
    """Set the fields of each row to its values. All rows have the same keys, one of them the primary key `id`.

    Rows that do not exist are ignored. SQLite needs to be of version 3.33 or newer.
    """
    if not rows:
        return
    fields: dict[str, Any] = {name: model._meta.get_field(name) for name in rows[0]}
    columns = {name: database.ops.quote_name(field.column) for name, field in fields.items()}
    table = database.ops.quote_name(model._meta.db_table)
    changes = ", ".join(f"{column} = new.{column}" for name, column in columns.items() if name != "id")
    values = [
        {field.column: field.get_db_prep_save(row[name], connection=database) for name, field in fields.items()}
        for row in rows
    ]
    with database.cursor() as cursor:
        cursor.execute(
            # Identifiers are the models' own.
            f"UPDATE {table} SET {changes} FROM {_source(fields)} WHERE {table}.id = new.id",  # noqa: S608
            [json.dumps(values, default=str)],
        )


def _source(fields: dict[str, Any]) -> str:
    if database.vendor == "postgresql":
        typed = ", ".join(
            f"{database.ops.quote_name(each.column)} {each.db_type(database)}" for each in fields.values()
        )
        return f"jsonb_to_recordset(%s::jsonb) AS new({typed})"
    selected = ", ".join(
        f"json_extract(value, '$.{each.column}') AS {database.ops.quote_name(each.column)}" for each in fields.values()
    )
    return f"(SELECT {selected} FROM json_each(%s)) AS new"  # noqa: S608
