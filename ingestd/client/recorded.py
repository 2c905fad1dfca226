"""A WebM or Matroska file as a publisher would have sent it: chunks by media time, cut inside elements.

The file is walked once, head by head, to find where its blocks begin and when they are due; payloads are
not read. Segments, Clusters and BlockGroups are entered and everything else is stepped over, so sizes
known and unknown come to the same (RFC 9559, sections 5.1 and 10.1).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

import trio
from attrs import field, frozen

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import EBML, MAX_HEAD, UNKNOWN, encode_id, read_head
from ingestd.media.frames import NS_PER_MS, NS_PER_S

TIMESLICE = 0.25
_PIECE = 2**20  # no message is longer, whatever the bit rate
_PEEK = MAX_HEAD + 16
_ENTERED = frozenset({ids.SEGMENT, ids.INFO, ids.CLUSTER, ids.BLOCK_GROUP})
_BLOCKS = (ids.SIMPLE_BLOCK, ids.BLOCK)


@frozen(slots=True)
class Cut:
    """A chunk ends before byte *end* of the file; it is complete *at* seconds after the first frame."""

    end: int
    at: float


@frozen(slots=True)
class Recorded:
    """A file and where to cut it.

    *duration*: seconds from the first frame to the start of the last. *whole*: bytes up to an element that
    the file's end cuts short, as it does in a recording that was not ended.
    """

    path: Path
    duration: float
    whole: int
    cuts: tuple[Cut, ...] = field(repr=False)


def index(path: Path, *, timeslice: float = TIMESLICE) -> Recorded:
    """Walk the file at *path* and cut it every *timeslice* seconds of media, one byte into a block.

    That is where a MediaRecorder cuts. Recorders back to back (a second EBML head) follow one another in
    time. Blocks until all of the file was walked: call it in a thread. Raises OSError, and `MediaError`
    for a file that is no WebM or Matroska, or has no media.
    """
    with path.open("rb") as file:
        walk = _Walk(file, timeslice)
        walk.run()
    return Recorded(path, walk.now, walk.whole, tuple(walk.cuts))


async def recorded_chunks(
    recorded: Recorded, *, speed: float = 1.0, loop: bool = False, seconds: float | None = None
) -> AsyncGenerator[tuple[float, bytes], None]:
    """Yield (seconds of media up to its end, chunk), each when it is due at *speed*, 0 meaning no pauses.

    *loop* begins anew at the end, as a browser does that makes another MediaRecorder; *seconds* of media
    end it. One that is asked late does not wait until it has caught up. Use ``contextlib.aclosing``.
    """
    start, before = trio.current_time(), 0.0
    async with await trio.open_file(recorded.path, "rb") as file:
        while True:
            await file.seek(0)
            position = 0
            for cut in recorded.cuts:
                at = before + cut.at
                if seconds is not None and at > seconds:
                    return
                if speed:
                    await trio.sleep_until(start + at / speed)
                end = min(cut.end, recorded.whole) if loop else cut.end
                while position < end:
                    data = await file.read(min(_PIECE, end - position))
                    if not data:
                        return  # it has become shorter meanwhile
                    position += len(data)
                    yield at, data
            if not loop:
                return
            before += recorded.duration + TIMESLICE


class _Walk:
    """One pass over *file*; afterwards *cuts*, *whole*, and in *now* the time of the last frame."""

    def __init__(self, file: BinaryIO, timeslice: float) -> None:
        self.cuts: list[Cut] = []
        self.now = 0.0
        self.whole = 0
        self._file = file
        self._timeslice = timeslice
        self._scale = NS_PER_MS
        self._cluster = 0  # timestamp, in units of the scale
        self._first: int | None = None  # of this recorder's frames, in ns
        self._before = 0.0  # seconds, of earlier recorders
        self._next_cut = timeslice
        self._frames = 0

    def run(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        position, group = 0, 0
        while position < size:
            data = self._peek(position)
            if position == 0 and not data.startswith(encode_id(EBML)):
                raise MediaError(0, "neither WebM nor Matroska")
            head = read_head(data, 0, len(data), position)
            if head is None:
                break
            element, length, taken = head
            body = position + taken
            if element == ids.BLOCK_GROUP:
                group = position
            if element in _ENTERED:
                position = body
                continue
            if length == UNKNOWN:
                raise MediaError(position, f"element 0x{element:x} may not have an unknown size")
            if body + length > size:
                break
            if element == EBML and position:
                self._begin_recorder(position)
            elif element in _BLOCKS:
                self._block(group if element == ids.BLOCK else position, data[taken:])
            elif element in (ids.TIMESTAMP, ids.TIMESTAMP_SCALE):
                self._number(element, data[taken : taken + length])
            position = body + length
        if not self._frames:
            raise MediaError(position, "there is no media in it")
        self.whole = position
        self._cut(size, self.now)

    def _peek(self, position: int) -> bytes:
        self._file.seek(position)
        return self._file.read(_PEEK)

    def _number(self, element: int, body: bytes) -> None:
        value = int.from_bytes(body[:8], "big")
        if element == ids.TIMESTAMP:
            self._cluster = value
        else:
            self._scale = value or NS_PER_MS

    def _block(self, position: int, body: bytes) -> None:
        """A block (RFC 9559, section 10.2): its track number, then its time relative to the Cluster's."""
        track = 9 - body[0].bit_length()
        relative = int.from_bytes(body[track : track + 2], "big", signed=True)
        time = (self._cluster + relative) * self._scale
        if self._first is None:
            self._first = time
        at = self._before + (time - self._first) / NS_PER_S
        if at >= self._next_cut:
            # After a silence the chunk before it was not held back until the silence ended.
            self._cut(position + 1, min(at, self.now + self._timeslice))
            self._next_cut = at + self._timeslice
        self.now = max(self.now, at)
        self._frames += 1

    def _begin_recorder(self, position: int) -> None:
        self._cut(position, self.now)
        self._before = self.now
        self._next_cut = self.now + self._timeslice
        self._scale, self._cluster, self._first = NS_PER_MS, 0, None

    def _cut(self, end: int, at: float) -> None:
        if not self.cuts or end > self.cuts[-1].end:
            self.cuts.append(Cut(end, at))
