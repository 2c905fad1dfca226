"""The journal: everything that a recorder sent, append-only on disk. It is the acknowledgement.

A session's journal is one file per recorder, holding its bytes as they came (each playable as it
stands), and one index. `Journal.append` returns when the operating system has the bytes, so that
they survive the daemon's death (``ack = "synced"``: the machine's, too). One task with one thread
writes for all journals of the daemon, in batches: a slow disk holds publishers back, never the
event loop. A later daemon goes on with what it finds (`Journal.reopen`).
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import trio
from attrs import define, field, frozen

from ingestd.errors import IngestdError
from ingestd.live.journal_file import RecorderFile, media_path, punch, pwrite, read_at
from ingestd.live.journal_index import INDEX_MAGIC, INDEX_RECORD, IndexEntry, parse_index

_HOLE_GRAIN = 64 * 2**10


class JournalFull(IngestdError):
    """The journal cannot take the chunk: no space, or its own bound. Nothing of the chunk was kept."""


class JournalReleased(IngestdError):
    """What was to be read is no longer there: the reader goes on behind it."""


@define(eq=False)
class _Write:
    """What one `append` asks of the writer thread."""

    journal: Journal
    pieces: list[tuple[RecorderFile, bytes | memoryview]]
    records: bytes
    done: trio.Event = field(factory=trio.Event)
    error: OSError | None = None


@define(eq=False)
class JournalWriter:
    """The one task that writes for all journals. Bounded: each journal has at most one chunk on its way."""

    ack: Literal["written", "synced"] = "written"
    min_free: int = 0
    _pending: list[_Write] = field(factory=list)
    _stopped: bool = False
    _wake: trio.Event = field(factory=trio.Event)
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write batches until cancelled; what is asked for then, or later, fails rather than waits."""
        batch: list[_Write] = []
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                batch, self._pending = self._pending, []
                # Abandoned rather than awaited on shutdown: a disk that hangs must not hold the exit.
                await trio.to_thread.run_sync(
                    self._write_all, batch, limiter=self._limiter, abandon_on_cancel=True
                )
                for write in batch:
                    write.done.set()
        finally:
            self._stopped = True
            for write in batch:
                if not write.done.is_set():
                    write.journal.abandoned = True
            for write in (*batch, *self._pending):
                if not write.done.is_set():
                    write.error = _stopping()
                    write.done.set()

    async def submit(self, write: _Write) -> None:
        """Have *write* done; raises its OSError."""
        if self._stopped:
            raise _stopping()
        self._pending.append(write)
        self._wake.set()
        # Not to be cancelled: the thread may be at these files, which the caller closes when it gives up.
        with trio.CancelScope(shield=True):
            await write.done.wait()
        if write.error is not None:
            raise write.error

    def _write_all(self, batch: list[_Write]) -> None:
        for write in batch:
            try:
                self._check_space(write.journal.directory)
                _write_one(write)
                if self.ack == "synced":
                    _sync(write)
            except OSError as error:
                write.error = error
                _undo(write)

    def _check_space(self, directory: Path) -> None:
        if self.min_free:
            stat = os.statvfs(directory)
            if stat.f_bavail * stat.f_frsize < self.min_free:
                raise OSError(errno.ENOSPC, f"less than {self.min_free} bytes free (journal.min_free)")


def _stopping() -> OSError:
    return OSError(errno.ECANCELED, "the daemon is stopping")


def _write_one(write: _Write) -> None:
    # Each piece has a file of its own: a chunk is cut only where a recorder begins.
    for file, data in write.pieces:
        if file.fd < 0:
            file.open()
        pwrite(file.fd, data, file.size)
    pwrite(write.journal.index_fd, write.records, write.journal.index_size)


def _sync(write: _Write) -> None:
    for fd in (*(file.fd for file, _ in write.pieces), write.journal.index_fd):
        os.fdatasync(fd)
    if any(not file.size for file, _ in write.pieces):
        # A new file's name is in its directory, which is to survive as well.
        directory = os.open(write.journal.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _undo(write: _Write) -> None:
    """Cut off what a failed write left, so that the files end with the last acknowledged chunk."""
    try:
        for file, _ in write.pieces:
            if not file.size:
                file.discard()
            elif file.fd >= 0:
                os.ftruncate(file.fd, file.size)
        os.ftruncate(write.journal.index_fd, write.journal.index_size)
    except OSError:
        return  # The index has no record of these bytes, so no reader takes them for acknowledged.


@frozen(slots=True)
class JournalStatistics:
    chunks: int
    bytes: int
    kept_bytes: int
    recorders: int


@define(eq=False)
class Journal:
    """One session's journal in *directory*: files ``<prefix>-0001.media`` …, and ``<prefix>.index``.

    *chunks* is the number of the next chunk, of which *partial* bytes are there already: a daemon may die
    in the middle of a long one.
    """

    writer: JournalWriter
    directory: Path
    prefix: str
    max_size: int
    index_fd: int
    index_size: int = 0
    chunks: int = 0
    partial: int = 0
    size: int = 0
    recorders: list[RecorderFile] = field(factory=list)
    #: A thread that nobody waits for any more may still write to the files: they stay open.
    abandoned: bool = False

    @classmethod
    def create(cls, writer: JournalWriter, directory: Path, prefix: str, max_size: int) -> Journal:
        """Open a new journal; *directory* must exist. Raises OSError, and then leaves nothing behind."""
        index = RecorderFile(directory / f"{prefix}.index")
        try:
            index.open()
            pwrite(index.fd, INDEX_MAGIC, 0)
        except OSError:
            index.discard()
            raise
        return cls(writer, directory, prefix, max_size, index.fd, index_size=len(INDEX_MAGIC))

    @classmethod
    def reopen(cls, writer: JournalWriter, directory: Path, prefix: str, max_size: int) -> Journal:
        """Go on with the journal that another process left; blocking.

        What was not acknowledged, because the index or the file ends before it, is cut off. Raises
        OSError and `IndexUnreadable`.
        """
        path = directory / f"{prefix}.index"
        data = path.read_bytes()
        recorders: list[RecorderFile] = []
        there: list[int] = []
        whole, chunks, partial = len(INDEX_MAGIC), 0, 0
        for entry in parse_index(data):
            if entry.recorder == len(recorders) + 1:
                file = RecorderFile(media_path(directory, prefix, entry.recorder))
                recorders.append(file)
                there.append(file.path.stat().st_size if file.path.exists() else 0)
            if not recorders or entry.recorder != len(recorders) or entry.offset != recorders[-1].size:
                break
            file = recorders[-1]
            if entry.offset + entry.size > there[-1]:
                break  # A power cut: the index came to the disk, the bytes did not.
            file.size += entry.size
            partial = (partial if entry.chunk == chunks else 0) + entry.size if entry.more else 0
            chunks = entry.chunk + (not entry.more)
            whole += INDEX_RECORD.size
        while recorders and not recorders[-1].size:
            recorders.pop()
        if recorders:
            os.truncate(recorders[-1].path, recorders[-1].size)
        for stray in directory.glob(f"{prefix}-*.media"):
            if stray not in {file.path for file in recorders}:
                stray.unlink()
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(fd, whole)
        size = sum(file.size for file in recorders)
        return cls(writer, directory, prefix, max_size, fd, whole, chunks, partial, size, recorders)

    async def append(
        self, chunk: bytes | memoryview, starts: Sequence[int] = (), *, last: bool = True
    ) -> None:
        """Accept *chunk*: on return it is written (or synced). At the offsets *starts* recorders begin.

        A long chunk may come in parts, all but the *last* with False: they share its number.

        Raises `JournalFull`, and then nothing of the chunk is in the journal; any other `OSError`
        of the disk is a `JournalFull` as well, with its own words. Not cancelled half-way.
        """
        if not chunk:
            return
        if self.kept_bytes + len(chunk) > self.max_size:
            raise JournalFull(
                f"the journal has reached its bound of {self.max_size} bytes (journal.max_size)"
            )
        view = memoryview(chunk)
        pieces: list[tuple[RecorderFile, bytes | memoryview]] = []
        opened: list[RecorderFile] = []
        begins = set(starts) if self.recorders else {0, *starts}
        cuts = sorted({0, *starts, len(view)})
        records = bytearray()
        arrival = time.time()
        for begin, end in itertools.pairwise(cuts):
            number = len(self.recorders) + len(opened) + (begin in begins)
            if begin in begins:
                opened.append(RecorderFile(media_path(self.directory, self.prefix, number)))
            file = opened[-1] if opened else self.recorders[-1]
            pieces.append((file, view[begin:end]))
            more = not last or end < len(view)
            records += IndexEntry(self.chunks, number, end - begin, file.size, arrival, more).pack()
        try:
            await self.writer.submit(_Write(self, pieces, bytes(records)))
        except OSError as error:
            raise JournalFull(f"the journal cannot be written: {error.strerror or error}") from error
        for file, data in pieces:
            file.size += len(data)
        # Only the newest is written to: however many recorders come, they cost no file descriptors.
        if opened:
            for file in [*self.recorders[-1:], *opened[:-1]]:
                file.close()
        self.recorders += opened
        self.index_size += len(records)
        self.chunks += last
        self.partial = 0 if last else self.partial + len(view)
        self.size += len(view)

    @property
    def kept_bytes(self) -> int:
        return sum(file.kept for file in self.recorders)

    def kept_before(self, recorder: int, offset: int) -> int:
        """How many of the kept bytes lie before byte *offset* of *recorder*."""
        file = self.recorders[recorder]
        hole = max(0, min(offset, file.hole[1]) - file.hole[0])
        return sum(file.kept for file in self.recorders[:recorder]) + offset - hole

    async def read(self, recorder: int, offset: int, size: int) -> bytes:
        """Up to *size* bytes of recorder number *recorder* (from 0) at *offset*; empty at its end.

        Raises `JournalReleased` if some of them have been given back.
        """
        file = self.recorders[recorder]
        size = min(size, file.size - offset)
        if size <= 0:
            return b""
        data = await trio.to_thread.run_sync(read_at, file.path, size, offset)
        if offset < file.hole[1] and offset + size > file.hole[0]:
            raise JournalReleased(f"bytes {offset} to {offset + size} of {file.path.name} have been released")
        return data

    async def release(self, recorder: int, before: int, *, keep: int = 0) -> None:
        """Give the disk back what lies before byte *before* of *recorder* and all of the recorders before it.

        The first *keep* bytes (the init segment) stay. Offsets do not change: the files get holes.
        """
        for number, file in enumerate(self.recorders[: recorder + 1]):
            end = file.size if number < recorder else before
            end -= end % _HOLE_GRAIN
            begin = file.hole[0] if file.hole[1] else -(-keep // _HOLE_GRAIN) * _HOLE_GRAIN
            if end <= max(begin, file.hole[1]):
                continue
            # Noted first: a read that is under way then knows that it came too late.
            before_this, file.hole = file.hole, (begin, end)
            if not await trio.to_thread.run_sync(punch, file.path, begin, end - begin):
                file.hole = before_this

    def close(self) -> None:
        """Close all files; idempotent. What was appended stays."""
        if self.index_fd >= 0 and not self.abandoned:
            for file in self.recorders:
                file.close()
            os.close(self.index_fd)
            self.index_fd = -1

    def remove(self) -> None:
        """Close, and delete the journal's files."""
        self.close()
        for file in self.recorders:
            file.path.unlink(missing_ok=True)
        (self.directory / f"{self.prefix}.index").unlink(missing_ok=True)

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(self.chunks, self.size, self.kept_bytes, len(self.recorders))
