"""A recording's file while it is written, ``<file>.part``, and how it gets its name."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import trio
from attrs import define, field

from ingestd.errors import MediaError
from ingestd.live.batch import Batch, Configuration
from ingestd.live.orphans import environment
from ingestd.live.resume import End, PartNote
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import MAX_HEAD, UNKNOWN, read_head
from ingestd.media.ffmpeg import remux_args
from ingestd.media.ffmpeg_output import StderrParser
from ingestd.media.frames import NS_PER_MS, Frame, Header, Track
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer

PART = ".part"
#: What an MP4 is called while it is made: ``.<file>.converting``.
CONVERTING = ".converting"
_READ = 2**20


@define(eq=False)
class Part:
    """The file while it is written. All methods block: call them in a thread.

    *configuration* is None until a part that was opened again is given frames: see `takes`. *ends* and
    *latest* (the program's time in ns, no later than it was) say how far its tracks went then.
    """

    path: Path
    file: Path
    configuration: Configuration | None
    _fd: int
    _muxer: Muxer
    begins: int = 0
    size: int = 0
    ends: dict[int, End] = field(factory=dict)
    latest: dict[int, int] = field(factory=dict)
    _unwritten: bytes = b""

    @classmethod
    def create(cls, file: Path, configuration: Configuration, note: PartNote) -> Part:
        """Begin ``<file>.part``, with the times of *note*.

        Raises FileExistsError rather than overwrite anything, *file* included.
        """
        path = part_of(file)
        muxer = _muxer(configuration.tracks, note.date, note.zero)
        if file.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        part = cls(path, file, configuration, fd, muxer, note.begins)
        try:
            part._append(muxer.header())
        except OSError:
            part.close()
            path.unlink()
            raise
        return part

    @classmethod
    def reopen(cls, file: Path, note: PartNote | None = None) -> Part:
        """``<file>.part`` again, cut back to its last whole cluster; without its *note*, to be finished.

        Raises ValueError, `MediaError` or `UnsupportedMedia` if it is no recording of ours or no cluster of
        it is whole, and then leaves it as it is.
        """
        path = part_of(file)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with os.fdopen(fd, "rb", closefd=False) as stream:
                size = _end_of_clusters(stream)
                stream.seek(0)
                muxer, ends, latest = _read_back(stream, size, note)
            os.ftruncate(fd, size)
            if note is not None:
                # A finish that was cut off may have said where the Segment ends.
                _pwrite(fd, muxer.header(), 0)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, file, None, fd, muxer, note.begins if note else 0, size, ends, latest)

    @property
    def dropped(self) -> int:
        """Frames that lie before the file's time 0, and are not in it."""
        return self._muxer.dropped

    def time(self, frame: Frame) -> int:
        """The time of *frame* in the file, in ms."""
        return self._muxer.time(frame)

    def takes(self, configuration: Configuration) -> bool:
        """Whether frames of *configuration* go into this file.

        What was opened again goes on with the first one of its own tracks.
        """
        if self.configuration is None and self._muxer.describes(configuration.tracks):
            self.configuration = configuration
        return self.configuration is configuration

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


@define(eq=False)
class Left:
    """A part that an earlier daemon ended and did not finish: a `Part` to which nothing more is written."""

    file: Path

    @property
    def path(self) -> Path:
        return part_of(self.file)

    def finish(self) -> None:
        """`repair` it."""
        repair(self.path)

    def close(self) -> None:
        """Nothing is open."""


def part_of(file: Path) -> Path:
    """What *file* is called while it is written."""
    return file.with_name(file.name + PART)


def is_taken(file: Path) -> bool:
    """Whether *file* is there, or is being written. Blocks."""
    return file.exists() or part_of(file).exists()


def converting(file: Path) -> Path:
    """What the MP4 *file* is called while it is made."""
    return file.with_name(f".{file.name}{CONVERTING}")


def repair(part: Path) -> None:
    """Cut off what follows the last whole cluster, and make the file seekable.

    Raises as `Part.reopen` does. A part that has its name already is left as it is: it was finished.
    """
    file = part.with_name(part.name.removesuffix(PART))
    if _is_same(part, file):
        return
    opened = Part.reopen(file)
    try:
        opened.finish()
    finally:
        opened.close()


async def publish(part: Path, file: Path, ffmpeg: str, note: Callable[[Path], None] | None = None) -> None:
    """Give the finished *part* its name, as MP4 by way of FFmpeg if the name asks for it.

    *note* is called, in a thread, with what is about to get the name. Raises OSError; FileExistsError
    rather than overwrite a file. The part is there until the file is, and if this is cut off, the next
    call goes on.
    """
    if await trio.to_thread.run_sync(_was_published, part, file):
        return
    if file.suffix == ".mp4":
        converted = converting(file)
        try:
            await _remux(ffmpeg, part, converted)
            await trio.to_thread.run_sync(_rename, converted, file, part, note)
        finally:
            converted.unlink(missing_ok=True)
    else:
        await trio.to_thread.run_sync(_rename, part, file, part, note)


def _was_published(part: Path, file: Path) -> bool:
    """Remove what a `publish` left that was cut off; whether *file* is what it made."""
    converted = converting(file)
    published = _is_same(part, file) or _is_same(converted, file)
    if published:
        part.unlink()
    converted.unlink(missing_ok=True)
    return published


def _rename(source: Path, target: Path, part: Path, note: Callable[[Path], None] | None) -> None:
    """Rename, overwrite nothing, and remove *part*: before *source*, which proves whose *target* is."""
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
    part.unlink(missing_ok=True)


def _is_same(path: Path, file: Path) -> bool:
    try:
        return path.samefile(file)
    except FileNotFoundError:
        return False


def _muxer(tracks: tuple[Track, ...], date: int | None, zero: int) -> Muxer:
    return Muxer(tracks, doc_type="matroska", seekable=True, date=date, start=zero)


def _muxer_of(header: Header, note: PartNote | None) -> Muxer:
    """One whose header is as long as *header*: with or without a date."""
    date, zero = (note.date, note.zero) if note else (0, 0)
    dated = _muxer(header.tracks, date, zero)
    return dated if len(dated.header()) == header.size else _muxer(header.tracks, None, zero)


def _read_back(
    stream: BinaryIO, size: int, note: PartNote | None
) -> tuple[Muxer, dict[int, End], dict[int, int]]:
    """The muxer of the first *size* bytes of *stream*, ready to go on, and how far the tracks go."""
    demuxer, muxer = Demuxer(), None
    zero = note.zero if note else 0
    ends: dict[int, End] = {}
    latest: dict[int, int] = {}
    while data := stream.read(min(_READ, size - stream.tell())):
        events = demuxer.feed(data)
        if muxer is None and (header := next((e for e in events if isinstance(e, Header)), None)):
            muxer = _muxer_of(header, note)
        if muxer is None:
            continue
        muxer.recover(events)
        last: dict[int, tuple[int, Frame]] = {}
        for event in events:
            if isinstance(event, Frame):
                at = event.timestamp + zero
                time = muxer.time(Frame(event.track, at, event.keyframe, b""))
                end = ends.setdefault(event.track, End(time, time))
                end.newest = max(end.newest, time)
                end.frames += 1
                latest[event.track] = max(at - NS_PER_MS // 2, latest.get(event.track, 0))
                last[event.track] = time, event
        for track, (time, frame) in last.items():
            ends[track].last = time, bytes(frame.payload)
    if muxer is None or not ends:
        raise ValueError("nothing of it is whole")
    muxer.resume(size)
    return muxer, ends, latest


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
