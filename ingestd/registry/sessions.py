"""Sessions in the database: which ran, when, how they ended, and what came."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from attrs import asdict
from sqlalchemy import ColumnElement, Connection, delete, select, update

from ingestd.registry import tables
from ingestd.registry.model import SessionRow
from ingestd.registry.paging import Page, newest_first
from ingestd.registry.upsert import Excluded, upsert

_table = tables.sessions

#: What a session died of that was on air when its daemon died, and that no later one goes on with.
LOST = "the daemon died, and nothing was left of the session to go on with"


def keep_sessions(connection: Connection, rows: Iterable[SessionRow]) -> None:
    """Store *rows*, each in place of the one of its stream and id.

    One that is on air does not take the place of one that has ended and was updated later.
    """
    upsert(connection, _table, [asdict(row) for row in rows], "stream", "id", where=_goes_on)


def find_session(connection: Connection, stream: str, session: str) -> SessionRow | None:
    """The session *session* of *stream*."""
    row = connection.execute(
        select(_table).where(_table.c.stream == stream, _table.c.id == session)
    ).one_or_none()
    return _session(row) if row else None


def find_sessions(connection: Connection, session: str, stream: str | None = None) -> list[SessionRow]:
    """The sessions with the id *session*, of *stream* or of any: mostly one, for it is a time."""
    rows = select(_table).where(_table.c.id == session).order_by(_table.c.stream)
    if stream is not None:
        rows = rows.where(_table.c.stream == stream)
    return [_session(row) for row in connection.execute(rows.limit(100)).all()]


def list_sessions(
    connection: Connection,
    *,
    stream: str | None = None,
    on_air: bool | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[SessionRow]:
    """Sessions, those that began last first: of *stream*, those that are *on_air*, or are not.

    Raises `BadCursor`.
    """
    rows = select(_table)
    if stream is not None:
        rows = rows.where(_table.c.stream == stream)
    if on_air is not None:
        rows = rows.where(_table.c.ended.is_(None) if on_air else _table.c.ended.is_not(None))
    order = (_table.c.started, _table.c.stream, _table.c.id)
    return newest_first(connection, rows, order, _session, limit, cursor)


def end_lost_sessions(connection: Connection, live: Collection[tuple[str, str]], now: float) -> int:
    """End what is on air in the database and not among *live* (stream, id); how many that were.

    Such a session ended when it was last heard of.
    """
    on_air = connection.execute(select(_table.c.stream, _table.c.id).where(_table.c.ended.is_(None))).all()
    lost = [tuple(row) for row in on_air if tuple(row) not in live]
    for stream, session in lost:
        connection.execute(
            update(_table)
            .where(_table.c.stream == stream, _table.c.id == session)
            .values(state="failed", ended=_table.c.updated, cause=LOST, updated=now)
        )
    return len(lost)


def drop_sessions(connection: Connection, before: float) -> int:
    """Remove those that ended before *before*; how many that were."""
    return connection.execute(delete(_table).where(_table.c.ended < before)).rowcount


def _goes_on(new: Excluded) -> ColumnElement[bool]:
    # Not by time alone: a clock that was put back must not keep a session from ending.
    return new.ended.is_not(None) | _table.c.ended.is_(None) | (new.updated >= _table.c.updated)


def _session(row: Any) -> SessionRow:
    return SessionRow(**row._mapping)
