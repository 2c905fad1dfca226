"""Live streams at Mux that are to go: each is written down before it can be left behind, until it is gone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import asdict
from sqlalchemy import Connection, delete, func, or_, select, update

from ingestd.errors import IngestdError
from ingestd.registry import tables
from ingestd.registry.model import Leftover
from ingestd.registry.upsert import upsert

_table = tables.leftovers

MOST = 1000


class TooManyLeft(IngestdError):
    """So many wait to be deleted that no more are made."""


def add_leftover(connection: Connection, leftover: Leftover) -> None:
    """Store *leftover*, or its newest state."""
    upsert(connection, _table, [asdict(leftover)], "id")


def announce_leftover(connection: Connection, leftover: Leftover) -> None:
    """Store *leftover*, of what is about to be made. Raises `TooManyLeft`."""
    if connection.execute(select(func.count()).select_from(_table)).scalar_one() >= MOST:
        raise TooManyLeft(f"{MOST} live streams wait to be deleted at Mux: see GET /v1/mux/leftovers")
    add_leftover(connection, leftover)


def change_leftover(connection: Connection, leftover: Leftover) -> None:
    """Store how far *leftover* is, if it is still there."""
    row = asdict(leftover)
    connection.execute(update(_table).where(_table.c.id == row.pop("id")).values(row))


def drop_leftover(connection: Connection, leftover: str) -> None:
    """The one with the id *leftover* is gone, or is wanted after all."""
    connection.execute(delete(_table).where(_table.c.id == leftover))


def dropping(leftover: str) -> Callable[[Connection], None]:
    """`drop_leftover`, for the transaction that stores what is wanted."""
    return partial(drop_leftover, leftover=leftover)


def due_leftovers(connection: Connection, now: float, longest: float, limit: int = 100) -> list[Leftover]:
    """At most *limit* whose next attempt is due at *now*, those that wait longest first.

    None waits more than *longest* seconds: a time beyond that is of a clock that was put back.
    """
    due = or_(_table.c.next_attempt <= now, _table.c.next_attempt > now + longest)
    rows = select(_table).where(due).order_by(_table.c.next_attempt, _table.c.id).limit(limit)
    return [_leftover(row) for row in connection.execute(rows)]


def list_leftovers(connection: Connection) -> list[Leftover]:
    """All, the oldest first; at most a few more than `MOST`."""
    rows = select(_table).order_by(_table.c.since, _table.c.id).limit(2 * MOST)
    return [_leftover(row) for row in connection.execute(rows)]


def _leftover(row: Any) -> Leftover:
    return Leftover(**row._mapping)
