"""``INSERT … ON CONFLICT``, which both databases have and SQLAlchemy spells once for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *key: str, newer: str = ""
) -> None:
    """Add *rows* to *table*; where there is a row of the same *key*, the new one takes its place.

    With *newer*, a column, it does so only where it has at least as much there.
    """
    if rows:
        statement = _insert(connection, table)
        others = {name: statement.excluded[name] for name in rows[0] if name not in key}
        where = statement.excluded[newer] >= table.c[newer] if newer else None
        connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=others, where=where), rows
        )


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Add *row* unless there is one that it cannot stand beside; whether it was added.

    A row of another transaction that is under way is waited for.
    """
    return connection.execute(_insert(connection, table).values(row).on_conflict_do_nothing()).rowcount == 1


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
