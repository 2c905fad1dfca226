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


def drop_recordings(connection: Connection, ids: Collection[str]) -> int:
    """Remove the rows with *ids*; how many that were."""
    return connection.execute(delete(_table).where(_table.c.id.in_(ids))).rowcount


def known_recordings(connection: Connection) -> dict[str, RecordingRow]:
    """Each recording by its id."""
    return {row.id: _recording(row) for row in connection.execute(select(_table)).all()}


def unlike(
    known: dict[str, RecordingRow], found: Collection[RecordingRow], live: Collection[tuple[str, str]]
) -> tuple[list[RecordingRow], list[str]]:
    """The rows to store and the ids to drop so that the rows agree with *found*, the files there are.

    *known* is what there was before the files were looked for: a row that came since is of a newer file.
    Rows of sessions that are *live* stay, whose files have not got their names yet.
    """
    rows = {row.id: row for row in found}
    for row in found:
        before = known.get(row.id)
        if before is not None and row.session is None:  # a file does not say whose it is
            rows[row.id] = evolve(row, session=before.session)
    changed = [row for row in rows.values() if row != known.get(row.id)]
    gone = [row.id for row in known.values() if row.id not in rows and (row.stream, row.session) not in live]
    return changed, gone


def _recording(row: Any) -> RecordingRow:
    return RecordingRow(**row._mapping)
