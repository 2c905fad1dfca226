"""A recording of the program: Matroska written by the daemon, made seekable or turned into MP4 at its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import structlog
import trio
from attrs import define

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed
from ingestd.live.hub import Batch, Configuration, Hub, Subscription
from ingestd.live.supervisor import Health, Supervisor
from ingestd.media.ffmpeg import StderrParser, remux_args
from ingestd.media.frames import Event
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

PART = ".part"
_READ = 2**20


@define(eq=False)
class Recording:
    """Writes *program* to ``<stem>.mkv``, or ``.mp4``; a change of configuration begins ``<stem>-2`` and so on.

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
            self._files += 1
            suffix = "" if self._files == 1 else f"-{self._files}"
            self.file = self.place.recordings / f"{self.place.stem}{suffix}.{self.sink.format}"
            self._part = await trio.to_thread.run_sync(Part.create, self.file, batch.configuration)
        written = await trio.to_thread.run_sync(self._part.write, batch)
        self.sent_frames += len(batch.frames)
        self.sent_bytes += written

    async def _finish(self) -> None:
        if self._part is None or self.file is None:
            return
        await trio.to_thread.run_sync(self._part.finish)
        await publish(self._part.path, self.file, self.ffmpeg)
        log.info("recording_ready", stream=self.stream, file=self.file.name, bytes=self.file.stat().st_size)
        self._part = None


@define(eq=False)
class Part:
    """The file while it is written. All methods block: call them in a thread."""

    path: Path
    configuration: Configuration
    _fd: int
    _muxer: Muxer
    _size: int = 0

    @classmethod
    def create(cls, file: Path, configuration: Configuration) -> Part:
        """Begin ``<file>.part``. Raises FileExistsError rather than overwrite anything."""
        path = file.with_name(file.name + PART)
        muxer = Muxer(configuration.tracks, doc_type="matroska", seekable=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        part = cls(path, configuration, fd, muxer)
        part._append(muxer.header())
        return part

    def write(self, batch: Batch) -> int:
        """Append *batch* whole or not at all; returns the number of bytes."""
        data = self._muxer.mux(batch.frames)
        try:
            self._append(data)
        except OSError:
            # What was muxed counts as written for the muxer: put its place back, too.
            os.ftruncate(self._fd, self._size)
            self._muxer.resume(self._size)
            raise
        return len(data)

    def _append(self, data: bytes) -> None:
        view, at = memoryview(data), self._size
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written
        self._size = at

    def finish(self) -> None:
        """Write what makes the file seekable, and sync it; idempotent."""
        if self._fd < 0:
            return
        for offset, data in self._muxer.finish(self._size):
            os.pwrite(self._fd, data, offset)
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def publish(part: Path, file: Path, ffmpeg: str) -> None:
    """Give the finished *part* its name, as MP4 by way of FFmpeg if the name asks for it.

    Raises OSError; the part is there until the file is.
    """
    if file.suffix == ".mp4":
        converted = file.with_name(f".{file.name}.converting")
        try:
            await _remux(ffmpeg, part, converted)
            await trio.to_thread.run_sync(converted.replace, file)
        finally:
            converted.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    else:
        await trio.to_thread.run_sync(part.replace, file)


async def _remux(ffmpeg: str, source: Path, target: Path) -> None:
    result = await trio.run_process(
        remux_args(ffmpeg, str(source), str(target)),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
    )
    if result.returncode:
        said = StderrParser()
        said.feed(result.stderr + b"\n")
        raise OSError(f"FFmpeg cannot make {target.name}: {said.cause()}")


async def recover(directory: Path, ffmpeg: str) -> list[Path]:
    """Finish the recordings under *directory* that a dead daemon left; returns the files made of them."""
    made = []
    for part in await trio.to_thread.run_sync(lambda: sorted(directory.rglob(f"*{PART}"))):
        file = part.with_name(part.name.removesuffix(PART))
        try:
            await trio.to_thread.run_sync(repair, part)
            await publish(part, file, ffmpeg)
        except (OSError, ValueError) as error:
            log.error("recording_not_recovered", file=str(part), cause=str(error))
        else:
            log.info("recording_recovered", file=file.name)
            made.append(file)
    return made


def repair(part: Path) -> None:
    """Cut off a torn last cluster and make the file seekable. Raises ValueError if it is no recording of ours."""
    demuxer, muxer = Demuxer(), None
    with part.open("r+b") as file:
        pending: list[Event] = []
        while data := file.read(_READ):
            pending += demuxer.feed(data)
            for event in pending:
                if muxer is None and (tracks := getattr(event, "tracks", None)):
                    muxer = Muxer(tracks, doc_type="matroska", seekable=True)
            if muxer is not None:
                muxer.recover(pending)
                pending = []
        if muxer is None:
            raise ValueError("there is no header in it")
        demuxer.close()
        size = file.tell() - demuxer.truncated
        file.truncate(size)
        muxer.resume(size)
        for offset, data in muxer.finish(size):
            file.seek(offset)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
