"""Feeds a child's stdin from a subscription: Matroska, from a random access point on."""

from __future__ import annotations

import trio
from attrs import define

from ingestd.live.batch import Batch, Configuration
from ingestd.live.child import Input
from ingestd.live.hub import Subscription
from ingestd.media.frames import Frame
from ingestd.media.webm_mux import Muxer


@define(eq=False)
class Feeder:
    """One run of frames of one configuration. When that changes, `following` holds what comes next."""

    subscription: Subscription
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
        muxer = Muxer(configuration.tracks, doc_type="matroska")
        data = muxer.header()
        while self.following is not None and self.following.configuration is configuration:
            frames = self.following.frames
            data += muxer.mux(frames)
            await stdin.write(data, latest(frames))
            self.bytes += len(data)
            data = b""
            await self._receive()


def latest(frames: tuple[Frame, ...]) -> int:
    """The greatest timestamp among *frames*."""
    return max(frame.timestamp for frame in frames)
