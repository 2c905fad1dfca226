"""Feeds a child's stdin from a subscription: Matroska, from a random access point on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from attrs import define, evolve

from ingestd.live.batch import Batch, Configuration
from ingestd.live.child import Input
from ingestd.live.hub import Subscription
from ingestd.media.frames import Frame, Kind, Track
from ingestd.media.webm_mux import Muxer


@define(eq=False)
class Feeder:
    """One run of frames of one configuration. When that changes, `following` holds what comes next.

    *picture* (ns) is what a picture is said to last where its track does not tell: without it FFmpeg 5.1
    takes the last one to last no time at all, and an encoder leaves it out. *before* is called with each
    batch that is about to be written.
    """

    subscription: Subscription
    picture: int | None = None
    before: Callable[[Batch], Awaitable[None]] | None = None
    following: Batch | None = None
    ended: bool = False
    bytes: int = 0

    async def configuration(self) -> Configuration | None:
        """Wait for the first frames and tell their configuration; None if there will be none."""
        if self.following is None and not self.ended:
            await self._receive()
        return self.following.configuration if self.following else None

    async def _receive(self) -> None:
        try:
            self.following = await self.subscription.receive()
        except trio.EndOfChannel:
            self.following = None
            self.ended = True

    async def feed(self, stdin: Input) -> None:
        """Write until the hub's end or the next configuration."""
        configuration = await self.configuration()
        if configuration is None:
            return
        muxer = Muxer(tuple(map(self._lasting, configuration.tracks)), doc_type="matroska")
        data = muxer.header()
        while self.following is not None and self.following.configuration is configuration:
            if self.before is not None:
                await self.before(self.following)
            frames = self.following.frames
            data += muxer.mux(frames)
            await stdin.write(data, latest(frames))
            self.bytes += len(data)
            data = b""
            await self._receive()

    def _lasting(self, track: Track) -> Track:
        if track.kind is not Kind.VIDEO or track.default_duration or not self.picture:
            return track
        return evolve(track, default_duration=self.picture)


def latest(frames: tuple[Frame, ...]) -> int:
    """The greatest timestamp among *frames*."""
    return max(frame.timestamp for frame in frames)
