"""A recording of the program: Matroska written by the daemon, made seekable or turned into MP4 at its end."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import structlog
import trio
from attrs import define

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, IngestdError, MediaError
from ingestd.live.batch import Batch, Configuration
from ingestd.live.hub import Hub, Subscription
from ingestd.live.supervisor import Health, Supervisor
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import MAX_HEAD, UNKNOWN, read_head
from ingestd.media.ffmpeg import StderrParser, remux_args
from ingestd.media.frames import Header
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

PART = ".part"
_READ = 2**20


@define(eq=False)
class Recording:
    """Writes *program* to ``<stem>.mkv``, or ``.mp4``; another configuration begins ``<stem>-2`` and on.

    While it is written the file is Matroska and ends in ``.part``: it plays as it stands, and
    `recover` finishes it after a crash. A disk that fails is tried again as any sink is, from the
    frame that it failed at.
    """

    stream: str
    ffmpeg: str
    sink: FileSink
    place: Place
    config: SupervisorConfig
    program: Hub
    health: Health
    sent_frames: int = 0
    sent_bytes: int = 0
    file: Path | None = None
    _subscription: Subscription | None = None
    _batch: Batch | None = None
    _part: Part | None = None
    _files: int = 0

    @property
    def behind_frames(self) -> int:
        """Frames of the program that are not yet in the file."""
        return self.program.next_seq - self._subscription.cursor if self._subscription else 0

    @property
    def dropped_frames(self) -> int:
        return self._subscription.dropped if self._subscription else 0

    async def run(self) -> None:
        """Record until the program ends. Raises `FatalFailure` when the disk has failed for good."""
        with self.program.subscribe("journal", self.program.oldest_mark()) as self._subscription:
            try:
                await Supervisor(self.config, self.health).run(self._attempt)
            finally:
                if self._part is not None:
                    self._part.close()

    async def _attempt(self, progress: Callable[[], None]) -> None:
        assert self._subscription is not None  # noqa: S101  run made it
        try:
            while True:
                if self._batch is None:
                    try:
                        self._batch = await self._subscription.receive()
                    except trio.EndOfChannel:
                        break
                await self._write(self._batch)
                self._batch = None
                progress()
            await self._finish()
        except OSError as error:
            raise AttemptFailed(f"the recording cannot be written: {error.strerror or error}") from error

    async def _write(self, batch: Batch) -> None:
        if self._part is not None and self._part.configuration is not batch.configuration:
            await self._finish()
        if self._part is None:
            self.sink.output(self.place, batch.configuration.tracks)
            self._part = await trio.to_thread.run_sync(self._create, batch.configuration)
        written = await trio.to_thread.run_sync(self._part.write, batch)
        self.sent_frames += len(batch.frames)
        self.sent_bytes += written

    def _create(self, configuration: Configuration) -> Part:
        """The next file, under the first name that nobody has taken."""
        number = self._files
        while True:
            number += 1
            suffix = "" if number == 1 else f"-{number}"
            file = self.place.recordings / f"{self.place.stem}{suffix}.{self.sink.format}"
            try:
                part = Part.create(file, configuration)
            except FileExistsError:
                continue
            self._files, self.file = number, file
            return part

    async def _finish(self) -> None:
        if self._part is None or self.file is None:
            return
        await trio.to_thread.run_sync(self._part.finish)
        await publish(self._part.path, self.file, self.ffmpeg)
        log.info("recording_ready", stream=self.stream, file=self.file.name)
        self._part = None


@define(eq=False)
class Part:
    """The file while it is written. All methods block: call them in a thread."""

    path: Path
    configuration: Configuration
    _fd: int
    _muxer: Muxer
    _size: int = 0
    _unwritten: bytes = b""

    @classmethod
    def create(cls, file: Path, configuration: Configuration) -> Part:
        """Begin ``<file>.part``. Raises FileExistsError rather than overwrite anything, *file* included."""
        path = file.with_name(file.name + PART)
        muxer = Muxer(configuration.tracks, doc_type="matroska", seekable=True)
        if file.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        part = cls(path, configuration, fd, muxer)
        try:
            part._append(muxer.header())
        except OSError:
            part.close()
            path.unlink()
            raise
        return part

    def write(self, batch: Batch) -> int:
        """Append *batch* whole, and return the number of bytes.

        Raises OSError, and then nothing of it counts: call again, with the same batch, to go on.
        """
        # Muxed once: the muxer takes each frame that it sees for written.
        self._unwritten = self._unwritten or self._muxer.mux(batch.frames)
        self._append(self._unwritten)
        written, self._unwritten = len(self._unwritten), b""
        return written

    def _append(self, data: bytes) -> None:
        _pwrite(self._fd, data, self._size)
        self._size += len(data)

    def finish(self) -> None:
        """Write what makes the file seekable, and sync it; idempotent."""
        if self._fd < 0:
            return
        # A write that failed half-way may have left something behind the last whole cluster.
        os.ftruncate(self._fd, self._size)
        for offset, data in self._muxer.finish(self._size):
            _pwrite(self._fd, data, offset)
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def publish(part: Path, file: Path, ffmpeg: str) -> None:
    """Give the finished *part* its name, as MP4 by way of FFmpeg if the name asks for it.

    Raises OSError; FileExistsError rather than overwrite a file. The part is there until the file is.
    """
    if file.suffix == ".mp4":
        converted = file.with_name(f".{file.name}.converting")
        try:
            await _remux(ffmpeg, part, converted)
            await trio.to_thread.run_sync(_rename, converted, file)
        finally:
            converted.unlink(missing_ok=True)
        await trio.to_thread.run_sync(part.unlink)
    else:
        await trio.to_thread.run_sync(_rename, part, file)


def _rename(source: Path, target: Path) -> None:
    """Rename, and overwrite nothing."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


async def _remux(ffmpeg: str, source: Path, target: Path) -> None:
    result = await trio.run_process(
        remux_args(ffmpeg, str(source), str(target)),
        check=False,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
    )
    if result.returncode:
        said = StderrParser()
        said.feed(result.stderr + b"\n")
        raise OSError(f"FFmpeg cannot make {target.name}: {said.cause()}")


async def recover(
    directory: Path, ffmpeg: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> list[Path]:
    """Finish the recordings under *directory* that a dead daemon left; returns the files made of them.

    Started once it knows which: what is begun later is not touched. If cancelled, what is not yet
    finished is left to the next time.
    """
    parts = await trio.to_thread.run_sync(lambda: sorted(directory.rglob(f"*{PART}")))
    task_status.started()
    made = []
    for part in parts:
        file = part.with_name(part.name.removesuffix(PART))
        try:
            await trio.to_thread.run_sync(repair, part)
            await publish(part, file, ffmpeg)
        except (OSError, ValueError, IngestdError) as error:
            log.error("recording_not_recovered", file=str(part), cause=str(error))  # noqa: TRY400
        else:
            log.info("recording_recovered", file=file.name)
            made.append(file)
    log.info("recovery_finished", found=len(parts), recovered=len(made))
    return made


def repair(part: Path) -> None:
    """Cut off what follows the last whole cluster, and make the file seekable.

    Raises ValueError or MediaError if it is no recording of ours, or no cluster of it is whole.
    """
    with part.open("r+b") as file:
        size = _end_of_clusters(file)
        demuxer, muxer = Demuxer(), None
        file.seek(0)
        while data := file.read(min(_READ, size - file.tell())):
            events = demuxer.feed(data)
            if muxer is None and (header := next((e for e in events if isinstance(e, Header)), None)):
                muxer = Muxer(header.tracks, doc_type="matroska", seekable=True)
            if muxer is not None:
                muxer.recover(events)
        if muxer is None:
            raise ValueError("nothing of it is whole")
        file.truncate(size)
        for offset, data in muxer.finish(size):
            file.seek(offset)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _end_of_clusters(file: BinaryIO) -> int:
    """Where the last whole Cluster of *file* ends, found by their sizes; 0 if there is none.

    The daemon's clusters all say how long they are. After a power cut there may be anything behind them.
    """
    size, at, end = file.seek(0, os.SEEK_END), 0, 0
    while at < size:
        file.seek(at)
        head = file.read(MAX_HEAD)
        try:
            found = read_head(head, 0, len(head), at)
        except MediaError:
            break
        if found is None:
            break
        element, length, taken = found
        if length == UNKNOWN and element != ids.SEGMENT:
            break
        at += taken
        if element != ids.SEGMENT:
            at += length
        if element == ids.CLUSTER and at <= size:
            end = at
    return end
