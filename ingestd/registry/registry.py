"""The registry as the daemon has it: the directory in memory, the database behind it, and the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
import trio
from attrs import define
from sqlalchemy import Connection

from ingestd.config import Config
from ingestd.registry import streams
from ingestd.registry.database import Database, DatabaseRefused, DatabaseUnavailable
from ingestd.registry.directory import Directory, StreamTaken, declared
from ingestd.registry.ledger import BACKOFF, Ledger
from ingestd.registry.migrations import is_current, migrate
from ingestd.registry.model import RecordingRow, Stream
from ingestd.registry.recordings import drop_recordings, keep_recordings, known_recordings, unlike
from ingestd.registry.seal import Sealer, SealError
from ingestd.registry.sessions import drop_sessions, end_lost_sessions

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Rows that are written in one call.
_BATCH = 500


@define(eq=False)
class Registry:
    """What is known of streams. *directory* answers at once; what changes it goes to *database* first."""

    database: Database
    directory: Directory
    sealer: Sealer
    ledger: Ledger
    keep_sessions: float = 0.0

    @classmethod
    def of(cls, config: Config) -> Registry:
        """As *config* has it; nothing is opened yet. Raises `DatabaseRefused` and `CredentialError`."""
        state = config.storage.state_dir
        database = Database.of(config.database, state)
        return cls(
            database,
            Directory(declared(config.streams.values(), time.time())),
            Sealer.of(config.database.secret_key_file),
            Ledger(database, state / "unwritten.jsonl", config.database.max_pending),
            config.database.keep_sessions,
        )

    async def open(self) -> bool:
        """Migrate the database and fill the directory; whether that worked: False while it is away.

        Takes a few seconds at most unless there is something to migrate. Raises `DatabaseRefused` and
        `SealError`, which an operator has to see to.
        """
        try:
            found = await self.database.open(self._prepare, self._ready)
        except DatabaseUnavailable:
            return False
        for name in self.directory.fill(found):
            log.warning("stream_hidden", stream=name, cause="ingestd.toml has its name or its key")
        return True

    async def run(
        self,
        live: Callable[[], Collection[tuple[str, str]]],
        recordings: Callable[[], Collection[RecordingRow]],
    ) -> None:
        """Open the database if it is not, make it agree with what there is, and write what comes. No end.

        *live* gives stream and id of each session that is on air; *recordings* what is on the disk, in a
        thread. To be started once sessions of an earlier daemon have been taken up.
        """
        await self.ledger.restore()
        failures = 0
        while not await self._opened() or not await self._reconciled(live, recordings):
            await self.ledger.save()
            await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1
        await self.ledger.run()

    async def forget(self, every: float = 3600.0) -> None:
        """Forget sessions that ended over *keep_sessions* seconds ago, from time to time, without end."""
        while self.keep_sessions:
            with suppress(DatabaseUnavailable):  # later, then
                await self.database.run(drop_sessions, time.time() - self.keep_sessions)
            await trio.sleep(every)

    async def close(self, patience: float) -> None:
        """Write what still waits, or save it in its file, and give the connections back.

        At most *patience* seconds and the bound of one call; cancelling does not leave rows behind.
        """
        with trio.CancelScope(shield=True):
            with trio.move_on_after(patience):
                with suppress(DatabaseUnavailable):  # it is logged, and what waits is saved
                    await self.ledger.flush()
            await self.ledger.save()
            await self.database.close()

    async def add(self, stream: Stream, *also: Callable[[Connection], None]) -> None:
        """Store the new *stream*; then it is in the directory, too. *also* is done in the same transaction.

        Raises `StreamTaken`, `SealError`, `DatabaseUnavailable` and `NotStorable`.
        """
        if self.directory.get(stream.name) is not None:
            raise StreamTaken(f'there is a stream "{stream.name}" already; choose another name')
        await self.database.run(self._add, stream, *also)
        self.directory.put(stream)

    async def change(self, stream: Stream, was: float | None = None) -> None:
        """Store *stream* in place of the one of its name, whose *updated* must be *was* where that is given.

        Raises as `add`, and `NoStream` and `StreamChanged`.
        """
        if stream.declared:
            await self.database.run(streams.keep_stream, stream, self.sealer)
        else:
            await self.database.run(self._change, stream, was)
        self.directory.put(stream)

    async def drop(self, name: str, *also: Callable[[Connection], None]) -> bool:
        """Remove the stream *name*; whether it was there. *also* is as `add` has it.

        Raises `DatabaseUnavailable`.
        """
        dropped = await self.database.run(self._drop, name, *also)
        return self.directory.remove(name) is not None or dropped

    def _add(self, connection: Connection, stream: Stream, *also: Callable[[Connection], None]) -> None:
        streams.add_stream(connection, stream, self.sealer)
        for each in also:
            each(connection)

    def _drop(self, connection: Connection, name: str, *also: Callable[[Connection], None]) -> bool:
        for each in also:
            each(connection)
        return streams.drop_stream(connection, name)

    def _change(self, connection: Connection, stream: Stream, was: float | None) -> None:
        streams.change_stream(connection, stream, self.sealer, was=was)

    def _ready(self, connection: Connection) -> list[Stream] | None:
        return streams.all_streams(connection, self.sealer) if is_current(connection) else None

    def _prepare(self, connection: Connection) -> list[Stream]:
        migrate(connection)
        return streams.all_streams(connection, self.sealer)

    async def _opened(self) -> bool:
        try:
            return self.database.opened or await self.open()
        except (DatabaseRefused, SealError) as error:
            log.error("database_refused", cause=str(error))  # noqa: TRY400  the operator's, not a defect
            return False

    async def _reconciled(
        self,
        live: Callable[[], Collection[tuple[str, str]]],
        recordings: Callable[[], Collection[RecordingRow]],
    ) -> bool:
        """No session stays on air that is not, and the recordings are those on the disk."""
        try:
            # What the sessions tell meanwhile stays in the ledger, and is written after this.
            await self.ledger.flush()
            known = await self.database.read(known_recordings)
            found = await trio.to_thread.run_sync(recordings)
            on_air = frozenset(live())
            changed, gone = await trio.to_thread.run_sync(unlike, known, found, on_air)
            for batch in _batches(changed):
                await self.database.run(keep_recordings, batch)
            for ids in _batches(gone):
                await self.database.run(drop_recordings, ids)
            lost = await self.database.run(self._settle, on_air)
        except DatabaseUnavailable:
            return False
        log.info("registry_ready", streams=len(self.directory), sessions_lost=lost, recordings_gone=len(gone))
        return True

    def _settle(self, connection: Connection, live: Collection[tuple[str, str]]) -> int:
        streams.seal_anew(connection, self.sealer)
        return end_lost_sessions(connection, live, time.time())


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """*items* in parts that one call can take within its time."""
    return (items[at : at + _BATCH] for at in range(0, len(items), _BATCH))
