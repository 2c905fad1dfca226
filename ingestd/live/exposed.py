"""A live stream as one endless body of WebM or Matroska, for programs that read a URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

from ingestd.live.batch import Batch
from ingestd.live.hub import Hub, Subscription
from ingestd.media.webm_mux import Muxer


class Exposed:
    """The frames of *hub* from its newest random access point on, muxed for one reader.

    One that is too slow is cut forward to a random access point (policy ``skip``), so that nothing piles
    up. Use `begin` first, then `parts`, then `close`. It ends with the hub, and where the tracks change:
    a reader's decoder was told others, and has to come again.
    """

    def __init__(self, hub: Hub) -> None:
        self._subscription: Subscription = hub.subscribe("skip")
        self._first: Batch | None = None
        self._muxer: Muxer | None = None

    async def begin(self, patience: float) -> bool:
        """Wait for the first frames, at most *patience* seconds; False if there are none."""
        with trio.move_on_after(patience):
            try:
                self._first = await self._subscription.receive()
            except trio.EndOfChannel:
                return False
        if self._first is None:
            return False
        # The first frame is at time 0; sound that lies before the picture is left out.
        self._muxer = Muxer(self._first.configuration.tracks, start=self._first.frames[0].timestamp)
        return True

    @property
    def media_type(self) -> str:
        """``video/webm`` or, with codecs that WebM does not have, ``video/x-matroska``."""
        webm = self._muxer is not None and b"webm" in self._muxer.header()[:64]
        return "video/webm" if webm else "video/x-matroska"

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The header, then a cluster or more at a time, as the frames come."""
        batch, muxer = self._first, self._muxer
        if batch is None or muxer is None:
            raise RuntimeError("begin() first")
        self._first = None
        yield muxer.header()
        while batch is not None and muxer.describes(batch.configuration.tracks):
            if data := muxer.mux(batch.frames):
                yield data
            try:
                batch = await self._subscription.receive()
            except trio.EndOfChannel:
                return

    def close(self) -> None:
        """Give up the place; idempotent."""
        self._subscription.close()
