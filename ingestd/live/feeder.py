"""Feeds a child's stdin from a subscription: Matroska, from a random access point on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from attrs import define, evolve

from ingestd.live.batch import Batch, Configuration
from ingestd.live.child import Input
from ingestd.live.hub import Subscription
from ingestd.media.frames import NS_PER_S, Frame, Kind, Track
from ingestd.media.webm_mux import Muxer

#: How far a track may lag behind the keyframe that a run begins with: no time lies below zero.
_LAG = NS_PER_S
#: FFmpeg writes 31 bits of milliseconds to RTMP, 24.8 days; this leaves time for a keyframe to come.
_LONGEST = 24 * 86_400 * NS_PER_S


@define(eq=False)
class Feeder:
    """One run of frames of one configuration. When that changes, `following` holds what comes next.

    *picture* (ns) is what a picture is said to last where its track does not tell: without it FFmpeg 5.1
    takes the last one to last no time at all, and an encoder leaves it out. *before* is called with each
    batch that is about to be written.

    With *anew* each run has times of its own, which begin at 0, or within a second of it, however old
    the timeline is; before they outgrow RTMP a random access point begins another run.
    """

    subscription: Subscription
    picture: int | None = None
    before: Callable[[Batch], Awaitable[None]] | None = None
    anew: bool = False
    following: Batch | None = None
    ended: bool = False
    paused: bool = False
    bytes: int = 0
    _receiving: trio.CancelScope | None = None

    async def configuration(self) -> Configuration | None:
        """Wait for the first frames and tell their configuration; None if there will be none."""
        if self.following is None and not self.ended:
            await self._receive()
        return self.following.configuration if self.following else None

    async def _receive(self) -> None:
        self.following = None
        try:
            with trio.CancelScope() as self._receiving:
                self.following = await self.subscription.receive()
        except trio.EndOfChannel:
            self.ended = True
        finally:
            self._receiving = None

    def pause(self) -> None:
        """End the run if all that there is has been written; what comes later is left where it is."""
        if self._receiving is not None and self.following is None and not self.subscription.is_behind:
            self.paused = True
            self._receiving.cancel()

    async def feed(self, stdin: Input) -> None:
        """Write until the hub's end or the next run."""
        await self.configuration()
        if self.following is None:
            return
        configuration = self.following.configuration
        zero = max(0, self.following.frames[0].timestamp - _LAG) if self.anew else 0
        muxer = Muxer(tuple(map(self._lasting, configuration.tracks)), doc_type="matroska", start=zero)
        data = muxer.header()
        while self.following is not None and self.following.configuration is configuration:
            batch = self.following
            count = self._fits(batch, zero)
            if not count:
                return
            if self.before is not None:
                await self.before(batch)
            frames = batch.frames[:count]
            data += muxer.mux(frames)
            await stdin.write(data, latest(frames))
            self.bytes += len(data)
            data = b""
            if count < len(batch.frames):
                self.following = batch.since(batch.first + count)
            else:
                await self._receive()

    def _fits(self, batch: Batch, zero: int) -> int:
        """How many of *batch*'s frames still belong to the run whose time 0 is *zero*."""
        if self.anew and latest(batch.frames) - zero >= _LONGEST:
            for index, frame in enumerate(batch.frames):
                if frame.timestamp - zero >= _LONGEST and batch.configuration.starts_at(frame):
                    return index
        return len(batch.frames)

    def _lasting(self, track: Track) -> Track:
        if track.kind is not Kind.VIDEO or track.default_duration or not self.picture:
            return track
        return evolve(track, default_duration=self.picture)


def latest(frames: tuple[Frame, ...]) -> int:
    """The greatest timestamp among *frames*."""
    return max(frame.timestamp for frame in frames)
