"""A recording of the program: Matroska written by the daemon, made seekable or turned into MP4 at its end.

Rotation: a file ends before a random access point, and the next begins with it, at time 0. Making
the ended one seekable (and an MP4 of it) is done beside the recording of the next. What fails there
is tried again when the next file has ended, and at the session's end as any sink's attempt is.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure
from ingestd.live.batch import Batch, Configuration, weight
from ingestd.live.catalog import Catalog
from ingestd.live.hub import Hub, Subscription
from ingestd.live.orphans import environment
from ingestd.live.retention import retain
from ingestd.live.supervisor import Health, Supervisor
from ingestd.media.ffmpeg import StderrParser, remux_args
from ingestd.media.frames import NS_PER_MS, NS_PER_S
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

PART = ".part"
#: Files that may wait to be finished; with more, the recording waits for them.
_MAX_ENDED = 64
#: How far one track may lag behind the others and still be heard at the beginning of a file.
_MAX_LAG = 2 * NS_PER_S


@define(eq=False)
class Recording:
    """Writes *program* to the file that *sink* names; rotation or another configuration begins the next.

    While it is written the file is Matroska and ends in ``.part``: it plays as it stands, and
    `ingestd.live.recovery` finishes it after a crash. A disk that fails is tried again as any sink is,
    from the frame that it failed at.
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
    finished: int = 0
    clock: Callable[[], float] = time.time
    _subscription: Subscription | None = None
    _batch: Batch | None = None
    _part: Part | None = None
    _files: int = 0
    _late_frames: int = 0
    _latest: dict[int, int] = field(factory=dict)
    _ended: list[Part] = field(factory=list)
    _finishing: trio.Lock = field(factory=trio.Lock)
    _nursery: trio.Nursery | None = None

    @property
    def name(self) -> str | None:
        """The path, below the stream's recordings, of the file that is being written, or was last."""
        return self.file.relative_to(self.place.recordings).as_posix() if self.file else None

    @property
    def behind_frames(self) -> int:
        """Frames of the program that are not yet in the file."""
        return self.program.next_seq - self._subscription.cursor if self._subscription else 0

    @property
    def dropped_frames(self) -> int:
        late = self._late_frames + (self._part.dropped if self._part else 0)
        return late + (self._subscription.dropped if self._subscription else 0)

    async def run(self) -> None:
        """Record until the program ends. Raises `FatalFailure` when the disk has failed for good."""
        failure = None
        with self.program.subscribe("journal", self.program.oldest_mark()) as self._subscription:
            try:
                async with trio.open_nursery() as self._nursery:
                    try:
                        await Supervisor(self.config, self.health).run(self._attempt)
                    except FatalFailure as caught:
                        failure = caught
            finally:
                for part in (*self._ended, self._part):
                    if part is not None:
                        part.close()
        if failure is not None:
            raise failure

    async def _attempt(self, progress: Callable[[], None]) -> None:
        assert self._subscription is not None  # noqa: S101  run made it
        try:
            while True:
                if self._batch is None:
                    try:
                        self._batch = await self._subscription.receive()
                    except trio.EndOfChannel:
                        break
                self._batch = await self._write(self._batch)
                progress()
            self._end_part()
            await self._finish()
        except OSError as error:
            raise AttemptFailed(f"the recording cannot be written: {error.strerror or error}") from error

    async def _write(self, batch: Batch) -> Batch | None:
        """Write what of *batch* goes into one file; returns the rest."""
        count = self._fits(batch)
        if count == 0 and self._part is not None:
            self._end_part()
            assert self._nursery is not None  # noqa: S101  run made it
            self._nursery.start_soon(self._finish_beside)
            if len(self._ended) > _MAX_ENDED:
                await self._finish()
        if self._part is None:
            self.sink.output(self.place, batch.configuration.tracks)
            # What comes out of the window arrived a known time ago; out of the journal, it is not known.
            behind = trio.current_time() - batch.arrival if batch.arrival else 0.0
            began = self.clock() - behind
            self._part = await trio.to_thread.run_sync(self._create, batch, began)
            count = self._fits(batch)
        frames = batch.frames[:count]
        piece = evolve(batch, frames=frames, size=weight(frames)) if count < len(batch.frames) else batch
        written = await trio.to_thread.run_sync(self._part.write, piece)
        self._latest.update((frame.track, frame.timestamp) for frame in frames)
        self.sent_frames += count
        self.sent_bytes += written
        return batch.since(piece.end) if piece is not batch else None

    def _fits(self, batch: Batch) -> int:
        """How many of *batch*'s frames go into the file that is being written."""
        part, sink = self._part, self.sink
        if part is None or part.configuration is not batch.configuration:
            return 0
        full = bool(sink.rotate_size) and part.size >= sink.rotate_size
        if full or sink.rotate_every:
            ends = part.begins + sink.rotate_every * NS_PER_S if sink.rotate_every else float("inf")
            for index, frame in enumerate(batch.frames):
                if (full or frame.timestamp >= ends) and batch.configuration.starts_at(frame):
                    return index
        return len(batch.frames)

    def _zero(self, batch: Batch) -> int:
        """The time that is 0 in the file that *batch* begins: no frame to come lies before it.

        The program's own beginning stays where it is. Later, a track may lag behind the keyframe; then
        it is what comes first, and where that is not known yet, what came last.
        """
        if batch.first == 0:
            return 0
        begins = batch.frames[0].timestamp
        first = dict(self._latest)
        first.update((frame.track, frame.timestamp) for frame in reversed(batch.frames))
        numbers = {track.number for track in batch.configuration.tracks}
        near = [at for track, at in first.items() if track in numbers and begins - at < _MAX_LAG]
        return min(begins, *near) // NS_PER_MS * NS_PER_MS if near else begins

    def _create(self, batch: Batch, began: float) -> Part:
        """The next file, under the first name that nobody has taken."""
        number, zero = self._files, self._zero(batch)
        catalog = Catalog.of(self.sink, self.place)
        while True:
            number += 1
            name = f"{self.sink.stem(self.place, number, began)}.{self.sink.format}"
            file = self.place.recordings / name
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                part = Part.create(file, batch.configuration, zero=zero, date=round(began * 1000) * NS_PER_MS)
            except FileExistsError:
                continue
            part.begins = batch.frames[0].timestamp
            if catalog is not None:
                try:
                    catalog.begin(name)
                except OSError:
                    part.close()
                    part.path.unlink()
                    raise
            self._files, self.file = number, file
            return part

    def _end_part(self) -> None:
        if self._part is not None:
            self._late_frames += self._part.dropped
            self._ended.append(self._part)
            self._part = None

    async def _finish_beside(self) -> None:
        """Finish what has ended while the next file is written."""
        try:
            await self._finish()
        except OSError as error:
            cause = error.strerror or str(error)
            log.warning("recording_not_ready", stream=self.stream, sink=self.sink.name, cause=cause)

    async def _finish(self) -> None:
        """Finish all that has ended. Raises OSError when one of it cannot be, after trying the others."""
        catalog, failure = Catalog.of(self.sink, self.place), None
        async with self._finishing:
            for part in list(self._ended):
                name = part.file.relative_to(self.place.recordings).as_posix()
                note = partial(catalog.note, name) if catalog is not None else None
                try:
                    await trio.to_thread.run_sync(part.finish)
                    await publish(part.path, part.file, self.ffmpeg, note)
                except OSError as error:
                    failure = error
                    continue
                self._ended.remove(part)
                self.finished += 1
                log.info("recording_ready", stream=self.stream, file=name)
                await trio.to_thread.run_sync(retain, self.sink, self.place)
        if failure is not None:
            raise failure


@define(eq=False)
class Part:
    """The file while it is written. All methods block: call them in a thread."""

    path: Path
    file: Path
    configuration: Configuration
    _fd: int
    _muxer: Muxer
    begins: int = 0
    size: int = 0
    _unwritten: bytes = b""

    @classmethod
    def create(
        cls, file: Path, configuration: Configuration, *, zero: int = 0, date: int | None = None
    ) -> Part:
        """Begin ``<file>.part``, whose time 0 is *zero* (ns) of the program and *date* (ns since 1970).

        Raises FileExistsError rather than overwrite anything, *file* included.
        """
        path = file.with_name(file.name + PART)
        muxer = Muxer(configuration.tracks, doc_type="matroska", seekable=True, date=date, start=zero)
        if file.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        part = cls(path, file, configuration, fd, muxer)
        try:
            part._append(muxer.header())
        except OSError:
            part.close()
            path.unlink()
            raise
        return part

    @property
    def dropped(self) -> int:
        """Frames that lie before the file's time 0, and are not in it."""
        return self._muxer.dropped

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
        _pwrite(self._fd, data, self.size)
        self.size += len(data)

    def finish(self) -> None:
        """Write what makes the file seekable, and sync it; idempotent."""
        if self._fd < 0:
            return
        # A write that failed half-way may have left something behind the last whole cluster.
        os.ftruncate(self._fd, self.size)
        for offset, data in self._muxer.finish(self.size):
            _pwrite(self._fd, data, offset)
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def publish(part: Path, file: Path, ffmpeg: str, note: Callable[[Path], None] | None = None) -> None:
    """Give the finished *part* its name, as MP4 by way of FFmpeg if the name asks for it.

    *note* is called, in a thread, with what is about to get the name. Raises OSError; FileExistsError
    rather than overwrite a file. The part is there until the file is.
    """
    if file.suffix == ".mp4":
        converted = file.with_name(f".{file.name}.converting")
        try:
            await _remux(ffmpeg, part, converted)
            await trio.to_thread.run_sync(_rename, converted, file, note)
        finally:
            converted.unlink(missing_ok=True)
        await trio.to_thread.run_sync(part.unlink)
    else:
        await trio.to_thread.run_sync(_rename, part, file, note)


def _rename(source: Path, target: Path, note: Callable[[Path], None] | None) -> None:
    """Rename, and overwrite nothing."""
    if note is not None:
        note(source)
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
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
    )
    if result.returncode:
        said = StderrParser()
        said.feed(result.stderr + b"\n")
        raise OSError(f"FFmpeg cannot make {target.name}: {said.cause()}")
