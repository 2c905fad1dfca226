"""``INSERT … ON CONFLICT``, which both databases have and SQLAlchemy spells once for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

#: The columns of the row that was to be inserted.
Excluded: TypeAlias = ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *key: str,
    where: Callable[[Excluded], ColumnElement[bool]] | None = None,
) -> None:
    """Add *rows* to *table*; where there is a row of the same *key*, the new one takes its place.

    With *where*, which is given the new one's columns, it does so only where that holds.
    """
    if rows:
        statement = _insert(connection, table)
        others = {name: statement.excluded[name] for name in rows[0] if name not in key}
        condition = where(statement.excluded) if where else None
        connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=others, where=condition), rows
        )


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Add *row* unless there is one that it cannot stand beside; whether it was added.

    A row of another transaction that is under way is waited for.
    """
    statement = _insert(connection, table).values(row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # it takes a while to load

        return postgresql.insert(table)
    return sqlite.insert(table)
