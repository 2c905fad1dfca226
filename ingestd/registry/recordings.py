"""Recordings in the database. The files are the truth: these rows find them, and say whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

from attrs import asdict, evolve
from sqlalchemy import Connection, delete, select

from ingestd.registry import tables
from ingestd.registry.model import RecordingRow
from ingestd.registry.paging import Page, newest_first
from ingestd.registry.upsert import upsert

_table = tables.recordings


def recording_id(stream: str, file: str) -> str:
    """The id of the recording *file* of *stream*: always the same, so that it can be found again."""
    return hashlib.sha256(f"{stream}/{file}".encode("utf-8", "surrogateescape")).hexdigest()[:24]


def keep_recordings(connection: Connection, rows: Iterable[RecordingRow]) -> None:
    """Store *rows*, each in place of the one of its id."""
    upsert(connection, _table, [asdict(row) for row in rows], "id")


def find_recording(connection: Connection, recording: str) -> RecordingRow | None:
    """The recording with the id *recording*."""
    row = connection.execute(select(_table).where(_table.c.id == recording)).one_or_none()
    return _recording(row) if row else None


def list_recordings(
    connection: Connection,
    *,
    stream: str | None = None,
    session: str | None = None,
    finished: bool | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[RecordingRow]:
    """Recordings, those that changed last first. Raises `BadCursor`."""
    rows = select(_table)
    if stream is not None:
        rows = rows.where(_table.c.stream == stream)
    if session is not None:
        rows = rows.where(_table.c.session == session)
    if finished is not None:
        rows = rows.where(_table.c.finished == finished)
    return newest_first(connection, rows, (_table.c.changed, _table.c.id), _recording, limit, cursor)


def drop_recordings(connection: Connection, ids: Iterable[str]) -> int:
    """Remove the rows with *ids*; how many that were."""
    return sum(
        connection.execute(delete(_table).where(_table.c.id == recording)).rowcount for recording in ids
    )


def known_recordings(connection: Connection) -> dict[str, tuple[str, str | None]]:
    """The stream and the session of each recording, by its id."""
    rows = connection.execute(select(_table.c.id, _table.c.stream, _table.c.session)).all()
    return {row.id: (row.stream, row.session) for row in rows}


def match_recordings(
    connection: Connection,
    known: dict[str, tuple[str, str | None]],
    found: Collection[RecordingRow],
    live: Collection[tuple[str, str]],
) -> int:
    """Make the rows agree with *found*, the files there are; how many were removed.

    *known* is what `known_recordings` gave before the files were looked for: a row that came since is of
    a newer file. Rows of sessions that are *live* stay, whose files have not got their names yet.
    """
    # A file does not say whose it is.
    owners = {recording: session for recording, (_, session) in known.items()}
    keep_recordings(
        connection,
        [row if row.session else evolve(row, session=owners.get(row.id)) for row in found],
    )
    there = {row.id for row in found}
    return drop_recordings(
        connection, [each for each, owner in known.items() if each not in there and owner not in live]
    )


def _recording(row: Any) -> RecordingRow:
    return RecordingRow(**row._mapping)
