"""The ledger writes what running streams have to tell into the database, and makes none of them wait.

They hand it rows, of which the newest of each session and recording is kept until it is written. While the
database is away it is tried again and again, and what waits is also in a file: it outlives the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import structlog
import trio
from attrs import define, field, frozen
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ingestd.registry.database import Database, DatabaseUnavailable, NotStorable
from ingestd.registry.model import RecordingRow, SessionRow
from ingestd.registry.recordings import drop_recordings, keep_recordings, recording_id
from ingestd.registry.sessions import keep_sessions
from ingestd.registry.unwritten import Forgotten, Row, load_rows, save_rows

log = structlog.get_logger(__name__)

#: Seconds before the attempts that follow a failure; then the last one again and again.
BACKOFF = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
#: What changes within so many seconds is written once.
_SETTLE = 0.25
_BATCH = 500

Key: TypeAlias = tuple[str, ...]


@frozen(slots=True)
class Statistics:
    """*depth* rows wait, *peak* was the most; *dropped* were given up: too many, or bad."""

    depth: int
    peak: int
    written: int
    dropped: int
    last_error: str | None


@define(eq=False)
class Ledger:
    """Rows on their way to *database*, at most *max_pending*; *file* has them while they cannot be written.

    `session`, `recording` and `forget_recording` may be called from Trio's thread at any time.
    """

    database: Database
    file: Path
    max_pending: int = 10_000
    _pending: dict[Key, Row] = field(factory=dict, init=False)
    _writing: dict[Key, Row] = field(factory=dict, init=False)
    _wake: trio.Event = field(factory=trio.Event, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)
    _saving: trio.Lock = field(factory=trio.Lock, init=False)
    _peak: int = field(default=0, init=False)
    _written: int = field(default=0, init=False)
    _dropped: int = field(default=0, init=False)
    _full: bool = field(default=False, init=False)
    _saved: bool = field(default=False, init=False)
    _last_error: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.database.when_trouble.append(lambda: self._wake.set())

    def session(self, row: SessionRow) -> None:
        """Store *row* soon, and nothing older of this session after it."""
        self._take(("session", row.stream, row.id), row)

    def recording(self, row: RecordingRow) -> None:
        """Store *row* soon."""
        self._take(("recording", row.id), row)

    def forget_recording(self, stream: str, file: str) -> None:
        """Remove the row of the recording *file* of *stream* soon: the file is gone."""
        forgotten = Forgotten(id=recording_id(stream, file))
        self._take(("recording", forgotten.id), forgotten)

    def statistics(self) -> Statistics:
        """How much waits, and what became of the rest."""
        depth = len(self._pending) + len(self._writing)
        return Statistics(depth, self._peak, self._written, self._dropped, self._last_error)

    async def restore(self) -> int:
        """Take up what an earlier daemon could not write; how many rows. Newer ones are not replaced."""
        rows = await trio.to_thread.run_sync(load_rows, self.file)
        for row in rows:
            key = _key(row)
            if key not in self._pending and key not in self._writing:
                self._take(key, row)
        self._saved = bool(rows)
        return len(rows)

    async def run(self) -> None:
        """Write what comes, without end; where the database is away, try until it is back."""
        failures = 0
        while True:
            if not (self._pending or self.database.trouble):
                self._wake = trio.Event()
                await self._wake.wait()
            await trio.sleep(_SETTLE)
            try:
                await self.flush()
                failures = 0
            except DatabaseUnavailable:
                delay = BACKOFF[min(failures, len(BACKOFF) - 1)]
                failures += 1
                await self.save()
                await trio.sleep(delay)

    async def flush(self) -> None:
        """Write all that waits. Raises `DatabaseUnavailable`: what is left then still waits."""
        async with self._turn:
            try:
                if not self._pending and self.database.trouble:
                    await self.database.read(_look)
                while self._pending:
                    await self._write()
            except DatabaseUnavailable as error:
                self._last_error = str(error)
                raise
        self._full = False
        if self._saved:
            await self.save()

    async def save(self) -> None:
        """Put what waits into the file, or remove that where nothing does; a failure is logged."""
        async with self._saving:  # at the end `run` may still be in the middle of it
            rows = [*self._writing.values(), *self._pending.values()]
            try:
                await trio.to_thread.run_sync(save_rows, self.file, rows)
            except OSError as error:
                log.warning("ledger_not_saved", cause=error.strerror, rows=len(rows))
            else:
                self._saved = bool(rows)

    def _take(self, key: Key, row: Row) -> None:
        if key not in self._pending and len(self._pending) >= self.max_pending:
            del self._pending[next(iter(self._pending))]
            self._dropped += 1
            if not self._full:
                self._full = True
                log.error("ledger_full", pending=len(self._pending), cause=self._last_error)
        self._pending[key] = row
        self._peak = max(self._peak, len(self._pending) + len(self._writing))
        self._wake.set()

    async def _write(self) -> None:
        """One batch. What was taken up comes back when it could not be written and nothing newer came."""
        keys = list(self._pending)[:_BATCH]
        self._writing = {key: self._pending.pop(key) for key in keys}
        try:
            try:
                await self.database.run(_store, tuple(self._writing.values()))
                self._written += len(self._writing)
            except (NotStorable, IntegrityError):
                await self._write_singly()
            self._writing = {}
        finally:
            self._pending = {**self._writing, **self._pending}
            self._writing = {}

    async def _write_singly(self) -> None:
        """One of the batch is bad: that one is given up, and no other."""
        for key, row in list(self._writing.items()):
            try:
                await self.database.run(_store, (row,))
                self._written += 1
            except (NotStorable, IntegrityError) as error:
                self._dropped += 1
                cause = str(error) if isinstance(error, NotStorable) else "another row stands in its way"
                log.error("row_refused", kind=key[0], id=key[-1], cause=cause)  # noqa: TRY400  no defect
            del self._writing[key]


def _key(row: Row) -> Key:
    if isinstance(row, SessionRow):
        return ("session", row.stream, row.id)
    return ("recording", row.id)


def _look(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT 1")


def _store(connection: Connection, rows: Sequence[Row]) -> None:
    keep_sessions(connection, [row for row in rows if isinstance(row, SessionRow)])
    keep_recordings(connection, [row for row in rows if isinstance(row, RecordingRow)])
    drop_recordings(connection, [row.id for row in rows if isinstance(row, Forgotten)])
