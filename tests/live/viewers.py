"""What the tests of viewers share: one on a pair of sockets, media for its ring, and what it got."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

from ingestd.live.ring import Init, Message, Ring
from ingestd.live.viewer import Coding, Framed, Viewer
from ingestd.server_frames import BINARY, TEXT, frame_head, text_frame
from tests.sources.receiving import Client

INIT = Init('video/webm;codecs="vp8"', b"init segment", "S1", 0.0)
OTHER = Init('video/webm;codecs="vp9"', b"another init segment", "S1", 0.0)


@define
class Source:
    """Media messages for a ring, each with a number in it."""

    ring: Ring
    viewers: list[Viewer] = field(factory=list)
    count: int = 0

    def send(
        self, size: int = 100, *, starts: bool = False, init: Init = INIT, at: float | None = None
    ) -> bytes:
        """One message of *size* bytes, to all viewers that are not busy; its payload."""
        payload = self.count.to_bytes(4) + bytes(size - 4)
        head = frame_head(BINARY, len(payload))
        now = trio.current_time() if at is None else at
        self.publish(Message(head + payload, len(head), now, init, starts, self.count, 1, self.count * 40))
        self.count += 1
        return payload

    def tell(self, kind: str, *, ends: bool = False) -> None:
        frame = text_frame(json.dumps({"type": kind}))
        self.publish(Message(frame, 0, trio.current_time(), ends=ends))

    def publish(self, message: Message) -> None:
        self.ring.append(message)
        for viewer in self.viewers:
            if not viewer.busy:
                viewer.offer(message)


@define
class Watched:
    """A viewer, and the other end of its socket."""

    viewer: Viewer
    client: Client
    source: Source
    nursery: trio.Nursery

    def join(self) -> None:
        self.viewer.attach(self.source.ring)
        self.source.viewers.append(self.viewer)
        self.viewer.pump()

    async def frames(self, count: int) -> list[tuple[int, Any]]:
        """The next frames: texts as JSON."""
        found = []
        with trio.fail_after(10):
            for _ in range(count):
                frame = await self.client.frame()
                assert frame is not None
                opcode, payload = frame
                found.append((opcode, json.loads(payload) if opcode == TEXT else payload))
        return found

    async def settled(self) -> None:
        """Wait until all is written that there is."""
        with trio.fail_after(10):
            while self.viewer.busy:  # noqa: ASYNC110  the other end must be read meanwhile
                await trio.sleep(0.001)


@asynccontextmanager
async def watched(
    coding: Coding | None = None, *, memory: int = 2**20, max_lag: float = 8.0, buffer: int = 0
) -> AsyncIterator[Watched]:
    """A viewer on one end of a pair of sockets, the kernel's *buffer* as small as it lets it be."""
    near, far = trio.socket.socketpair()
    if buffer:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    with near, far:
        async with trio.open_nursery() as nursery:
            viewer = Viewer(near, nursery, coding or Framed(), "cam")
            ring = Ring(memory, max_lag)
            yield Watched(viewer, Client(trio.SocketStream(far)), Source(ring), nursery)
            nursery.cancel_scope.cancel()


def kinds(frames: Iterable[tuple[int, Any]]) -> list[Any]:
    """What the frames are: a text's type, a control frame's opcode, the number in a media message."""
    return [
        payload["type"] if opcode == TEXT
        else opcode if opcode != BINARY
        else payload if payload.endswith(b"segment")
        else int.from_bytes(payload[:4])
        for opcode, payload in frames
    ]  # fmt: skip
