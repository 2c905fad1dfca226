"""What a hub carries: batches of frames, their configuration, and the marks where decoding can start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import evolve, frozen

from ingestd.media.frames import Frame, Kind, Track

#: What a frame costs besides its payload, roughly: a bound in bytes must hold for tiny frames, too.
FRAME_OVERHEAD = 256


def weight(frames: Iterable[Frame]) -> int:
    """The memory that *frames* take, in bytes."""
    return sum(len(frame.payload) + FRAME_OVERHEAD for frame in frames)


@frozen(slots=True, eq=False)
class Configuration:
    """The tracks of a batch's frames. Compared by identity: another one, another init segment."""

    tracks: tuple[Track, ...]

    @property
    def video(self) -> Track | None:
        return next((t for t in self.tracks if t.kind is Kind.VIDEO), None)

    @property
    def audio(self) -> Track | None:
        return next((t for t in self.tracks if t.kind is Kind.AUDIO), None)

    def starts_at(self, frame: Frame) -> bool:
        """True if decoding can start at *frame*: a video keyframe or, without video, any frame."""
        video = self.video
        return frame.keyframe and frame.track == video.number if video else True


@frozen(slots=True)
class Position:
    """Where a random access point lies in a journal.

    *recorder* (from 0) and *offset* name the byte at which its media segment begins; *skip* frames
    of that segment come before it.
    """

    recorder: int
    offset: int
    skip: int


@frozen(slots=True)
class Mark:
    """A random access point: the frame with sequence number *seq*, at *timestamp* (ns)."""

    seq: int
    timestamp: int
    configuration: Configuration
    position: Position | None = None


@frozen(slots=True)
class Batch:
    """Frames that arrived together, all of one configuration; *first* is the sequence number of the first."""

    configuration: Configuration
    frames: tuple[Frame, ...]
    first: int
    size: int
    arrival: float = 0.0

    @property
    def end(self) -> int:
        return self.first + len(self.frames)

    def since(self, seq: int) -> Batch:
        """The part of the batch from sequence number *seq* on."""
        skipped = seq - self.first
        if skipped <= 0:
            return self
        frames = self.frames[skipped:]
        return evolve(self, frames=frames, first=seq, size=weight(frames))


class ReplayReader(Protocol):
    """One pass over the journal."""

    async def next(self) -> Batch | None:
        """The next batch, or None at the journal's end as it is now."""
        ...


class Replay(Protocol):
    """Reads back what has left the hub's window; see `ingestd.live.replay`."""

    def read(self, mark: Mark) -> ReplayReader:
        """A reader from the media segment of *mark* on."""
        ...
