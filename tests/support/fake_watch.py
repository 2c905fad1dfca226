"""A stand-in for the daemon's watching side, which says and leaves out what a test tells it to.

It speaks the wire contract of ``/stream/watch/STREAM`` over captured media: for what a real daemon does not
do on command (gaps, silence, sudden ends).
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from itertools import count

import trio
from attrs import define, evolve, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_MS, Frame, Header, Kind, Track
from ingestd.media.mp4_mux import Mp4Muxer
from ingestd.media.mp4_records import mime
from ingestd.media.webm_mux import Muxer
from tests.support.captures import capture

SEGMENT_MS = 250
VP8 = "cv-vp8-250.webm"
VP9 = "cv-vp9-250.webm"
H264 = "cv-mp4avc-250.mp4"


@frozen
class Media:
    """A capture as frames, and how long it is."""

    container: str
    tracks: tuple[Track, ...]
    frames: tuple[Frame, ...]
    ms: int


@cache
def media(name: str) -> Media:
    """The frames of a capture, from its first keyframe on, at time 0."""
    demuxer = SniffingDemuxer()
    events = [*demuxer.feed(capture(name).data()), *demuxer.close()]
    [header] = [event for event in events if isinstance(event, Header)]
    video = {track.number for track in header.tracks if track.kind is Kind.VIDEO}
    frames = [event for event in events if isinstance(event, Frame)]
    first = next(frame.timestamp for frame in frames if frame.keyframe and frame.track in video)
    frames = [evolve(f, timestamp=f.timestamp - first) for f in frames if f.timestamp >= first]
    last = max(frame.timestamp for frame in frames if frame.track in video)
    frames.sort(key=lambda frame: frame.timestamp)
    container = "mp4" if header.doc_type == "mp4" else "webm"
    return Media(container, header.tracks, tuple(frames), last // NS_PER_MS + 33)


@define(eq=False)
class Viewer:
    """One connection: what is said on it, and the media that it gets."""

    socket: WebSocketConnection
    path: str
    number: int
    session: str = "s1"
    time: int = 0
    _muxer: Muxer | Mp4Muxer | None = field(default=None, init=False)
    _media: Media | None = field(default=None, init=False)
    _left: list[Frame] = field(factory=list, init=False)
    _begun: int = field(default=0, init=False)

    async def say(self, kind: str, **fields: object) -> None:
        """A text message."""
        await self.socket.send_message(json.dumps({"type": kind, **fields}))

    async def init(self, name: str = VP8, *, time: int | None = None) -> None:
        """The init segment of a capture, which begins at *time* (ms): by default where the last one ended."""
        self.time = self.time if time is None else time
        self._begun = self.time
        self._media = media(name)
        mp4 = self._media.container == "mp4"
        self._muxer = Mp4Muxer(self._media.tracks) if mp4 else Muxer(self._media.tracks)
        self._left = []
        kind = mime(self._media.tracks, self._media.container)
        await self.say("init", media=kind, time=self.time, session=self.session, live=self.time)
        await self.socket.send_message(self._muxer.header())

    def segment(self, ms: int = SEGMENT_MS) -> bytes:
        """The next segment of *ms*; the capture goes round and round."""
        assert self._media is not None
        assert self._muxer is not None
        end = self.time + ms
        out = []
        while True:
            if not self._left:
                self._left = [
                    evolve(frame, timestamp=frame.timestamp + self._begun * NS_PER_MS)
                    for frame in self._media.frames
                    if frame.timestamp < self._media.ms * NS_PER_MS
                ]
                self._begun += self._media.ms
            if self._left[0].timestamp >= end * NS_PER_MS:
                self.time = end
                return self._muxer.mux(out)
            out.append(self._left.pop(0))

    async def send(self, ms: int, *, pace: float = 1.0) -> None:
        """So many ms of media: *pace* times as long as they last, 0 at once."""
        start = trio.current_time()
        for sent in count(SEGMENT_MS, SEGMENT_MS):
            await self.socket.send_message(self.segment())
            await trio.sleep_until(start + sent / 1000 * pace)
            if sent >= ms:
                return

    async def send_sound(self, ms: int) -> None:
        """So many ms of the sound, at once, and nothing of the picture."""
        assert self._media is not None
        assert self._muxer is not None
        sound = {track.number for track in self._media.tracks if track.kind is Kind.AUDIO}
        frames = [f for f in self._media.frames if f.track in sound and f.timestamp < ms * NS_PER_MS]
        await self.socket.send_message(self._muxer.mux(frames))

    async def stay(self) -> None:
        """Send on in real time, with clocks, until the viewer goes."""
        while True:
            await self.say("clock", time=self.time, wall=round(time.time() * 1000))
            await self.send(1000)


Play = Callable[[Viewer], Awaitable[None]]


@define(eq=False)
class FakeWatch:
    """Where it listens, and the *paths* that it was asked for: one a connection."""

    url: str
    paths: list[str] = field(factory=list)

    @property
    def connections(self) -> int:
        return len(self.paths)


@asynccontextmanager
async def fake_watch(play: Play) -> AsyncIterator[FakeWatch]:
    """Serve what *play* says to each viewer, on loopback, for the time of the block."""
    made = FakeWatch("")

    async def handle(request: WebSocketRequest) -> None:
        offered = request.proposed_subprotocols
        socket = await request.accept(subprotocol=offered[0] if offered else None)
        made.paths.append(request.path)
        with suppress(ConnectionClosed):
            await play(Viewer(socket, request.path, made.connections))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", 0, None))
        made.url = f"ws://127.0.0.1:{server.port}/stream/watch/cam"
        yield made
        nursery.cancel_scope.cancel()
