"""Streams in the database. What a listener needs of them at once is in `ingestd.registry.directory`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import cattrs
from attrs import asdict
from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ingestd.errors import IngestdError
from ingestd.registry import tables
from ingestd.registry.directory import StreamTaken
from ingestd.registry.model import MuxLink, Playback, Stream, Target
from ingestd.registry.seal import Sealer
from ingestd.registry.upsert import upsert

_table = tables.streams
_targets = tables.targets


class NoStream(IngestdError):
    """There is no such stream in the database (any more)."""


class StreamChanged(IngestdError):
    """Somebody else has changed the stream meanwhile: read it again, and decide again."""


def add_stream(connection: Connection, stream: Stream, sealer: Sealer) -> None:
    """Store *stream*. Raises `StreamTaken` where its name or its key is another's, and `SealError`.

    After an error the transaction must end: PostgreSQL takes nothing more in it.
    """
    try:
        connection.execute(insert(_table), _row(stream))
    except IntegrityError:
        raise StreamTaken(f'a stream "{stream.name}" is there already, or has the same key') from None
    _add_targets(connection, stream, sealer)


def change_stream(
    connection: Connection, stream: Stream, sealer: Sealer, *, was: float | None = None
) -> None:
    """Store *stream* in place of the one of its name, which with *was* must be as `updated` then said.

    Raises `NoStream`, `StreamChanged`, `StreamTaken` (for its key) and `SealError`.
    """
    row = _row(stream)
    del row["name"]
    statement = update(_table).where(_table.c.name == stream.name)
    if was is not None:
        statement = statement.where(_table.c.updated == was)
    try:
        changed = connection.execute(statement.values(row)).rowcount
    except IntegrityError:
        raise StreamTaken(f'another stream has the key that "{stream.name}" was to have') from None
    if not changed:
        if connection.execute(select(_table.c.name).where(_table.c.name == stream.name)).first():
            raise StreamChanged(f'stream "{stream.name}" was changed by somebody else meanwhile')
        raise NoStream(f'there is no stream "{stream.name}"')
    _add_targets(connection, stream, sealer)


def keep_stream(connection: Connection, stream: Stream, sealer: Sealer) -> None:
    """Store *stream*, whether it is there already or not: for those that the file declares."""
    try:
        upsert(connection, _table, [_row(stream)], "name")
    except IntegrityError:
        raise StreamTaken(f'another stream has the key of "{stream.name}"') from None
    _add_targets(connection, stream, sealer)


def drop_stream(connection: Connection, name: str) -> bool:
    """Remove the stream *name* and its targets; its sessions and recordings stay. Whether it was there."""
    return connection.execute(delete(_table).where(_table.c.name == name)).rowcount > 0


def all_streams(connection: Connection, sealer: Sealer) -> list[Stream]:
    """Every stream, by name. Raises `SealError` when a target cannot be opened."""
    rows = connection.execute(select(_table).order_by(_table.c.name)).mappings().all()
    of_stream: defaultdict[str, list[Target]] = defaultdict(list)
    for row in connection.execute(select(_targets).order_by(_targets.c.stream, _targets.c.position)).all():
        of_stream[row.stream].append(sealer.open(row.stream, row.sink, row.sealed))
    return [_stream(row, of_stream[row["name"]]) for row in rows]


def seal_anew(connection: Connection, sealer: Sealer) -> int:
    """Seal with the sealer's first key what another one has sealed; how many targets that were.

    Afterwards the other keys may go. Raises `SealError` when a target cannot be opened.
    """
    count = 0
    for row in connection.execute(select(_targets)).all():
        if not sealer.is_current(row.sealed):
            sealed = sealer.seal(row.stream, sealer.open(row.stream, row.sink, row.sealed))
            where = (_targets.c.stream == row.stream) & (_targets.c.sink == row.sink)
            connection.execute(update(_targets).where(where).values(sealed=sealed))
            count += 1
    return count


def _add_targets(connection: Connection, stream: Stream, sealer: Sealer) -> None:
    connection.execute(delete(_targets).where(_targets.c.stream == stream.name))
    rows = [
        {
            "stream": stream.name,
            "sink": target.sink,
            "position": position,
            "sealed": sealer.seal(stream.name, target),
        }
        for position, target in enumerate(stream.targets)
    ]
    if rows:
        connection.execute(insert(_targets), rows)


def _row(stream: Stream) -> dict[str, Any]:
    row = asdict(stream, recurse=False)
    del row["targets"]
    row["labels"] = dict(stream.labels)
    row["playback"] = [asdict(playback) for playback in stream.playback]
    row["mux"] = asdict(stream.mux) if stream.mux else None
    return row


def _stream(row: RowMapping, targets: Sequence[Target]) -> Stream:
    values = dict(row)
    values["key_sha256"] = bytes(values["key_sha256"])
    values["targets"] = tuple(targets)
    values["playback"] = tuple(cattrs.structure(each, Playback) for each in values["playback"])
    values["mux"] = cattrs.structure(values["mux"], MuxLink) if values["mux"] else None
    return Stream(**values)
