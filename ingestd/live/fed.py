"""What an FFmpeg that writes segments was fed: where it may cut, and how much lies between two cuts."""

from __future__ import annotations

import bisect

from attrs import define, field, frozen

from ingestd.live.batch import Batch
from ingestd.live.hub import Hub
from ingestd.media.frames import NS_PER_MS

#: How far an EXTINF may be off: Matroska's times are whole milliseconds, EXTINF's whole microseconds.
NEAR = 5 * NS_PER_MS


@frozen(slots=True)
class Cut:
    """A place between two frames: before number *seq*, at *timestamp* (ns), after *payload* bytes."""

    seq: int
    timestamp: int
    payload: int = 0


@define(eq=False)
class Fed:
    """The frames of one attempt, from *first* on. FFmpeg cuts at video keyframes or, without video, anywhere.

    Payload counts where it certainly ends up between two cuts: pictures by their order, sound by its
    time as well, because FFmpeg puts packets into the order of time.
    """

    first: Cut
    #: All input has been written: what FFmpeg lists last ends wherever the input does.
    ended: bool = False
    _cuts: list[Cut] = field(factory=list)
    _next: int = 0
    _newest: int = 0
    _payload: int = 0
    _sound: list[tuple[int, int]] = field(factory=list)

    @classmethod
    def beginning(cls, batch: Batch) -> Fed:
        """Of an attempt whose first frame is the first of *batch*, which is still to be added."""
        return cls(Cut(batch.first, batch.frames[0].timestamp))

    def add(self, batch: Batch) -> bool:
        """Take note of *batch*, before it is written; True if FFmpeg may cut at one of its frames."""
        video = batch.configuration.video
        before = len(self._cuts)
        for self._next, frame in enumerate(batch.frames, batch.first):
            if batch.configuration.starts_at(frame):
                self._cut(frame.timestamp)
            if video is None or frame.track == video.number:
                self._payload += len(frame.payload)
                self._newest = max(self._newest, frame.timestamp)
            elif frame.timestamp >= (self._cuts or [self.first])[-1].timestamp:
                self._sound.append((frame.timestamp, len(frame.payload)))
        self._next = batch.end
        return len(self._cuts) > before

    def _cut(self, timestamp: int) -> None:
        self._payload += sum(size for at, size in self._sound if at < timestamp)
        self._sound = [(at, size) for at, size in self._sound if at >= timestamp]
        self._cuts.append(Cut(self._next, timestamp, self._payload))

    def nearest(self, timestamp: int) -> Cut:
        """The cut whose time is nearest to *timestamp*."""
        index = bisect.bisect_left(self._cuts, timestamp, key=lambda cut: cut.timestamp)
        around = self._cuts[max(0, index - 1) : index + 1]
        return min(around, key=lambda cut: abs(cut.timestamp - timestamp), default=self.first)

    def end(self) -> Cut:
        """The end of all that was fed; its time lies before that of any frame to come."""
        size = self._payload + sum(size for _, size in self._sound)
        return Cut(self._next, self._newest + 2 * NEAR, size)

    def forget_before(self, cut: Cut) -> None:
        """What lies before *cut* is listed."""
        del self._cuts[: bisect.bisect_left(self._cuts, cut.seq, key=lambda each: each.seq)]


async def fed_from(program: Hub, begin: int) -> Fed | None:
    """What an FFmpeg may have been fed of *program* as it is now, from the keyframe at *begin* (ns) on.

    None if *program* has nothing there.
    """
    end, fed = program.next_seq, None
    with program.subscribe("journal", program.mark_before(begin) or program.oldest_mark()) as subscription:
        while subscription.cursor < end:
            batch = await subscription.receive()
            if fed is None:
                starts = (
                    seq
                    for seq, frame in enumerate(batch.frames, batch.first)
                    if frame.timestamp >= begin - NEAR and batch.configuration.starts_at(frame)
                )
                if (start := next(starts, None)) is None:
                    continue
                batch = batch.since(start)
                fed = Fed.beginning(batch)
            fed.add(batch)
    return fed
