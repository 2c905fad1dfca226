"""One viewer's socket: whole frames in order, whatever it takes at a time, and nothing ever waits for it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field

from ingestd.live.ring import Init, Message, Ring
from ingestd.live.viewer import Coding, Framed, Plain, Viewer
from ingestd.server_frames import BINARY, CLOSE, PING, PONG, TEXT, frame_head, text_frame
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
    async with trio.open_nursery() as nursery:
        viewer = Viewer(near, nursery, coding or Framed(), "cam")
        ring = Ring(memory, max_lag)
        yield Watched(viewer, Client(trio.SocketStream(far)), Source(ring), nursery)
        nursery.cancel_scope.cancel()
    near.close()
    far.close()


def kinds(frames: Iterable[tuple[int, Any]]) -> list[Any]:
    """What the frames are: a text's type, a control frame's opcode, the number in a media message."""
    return [
        payload["type"] if opcode == TEXT
        else opcode if opcode != BINARY
        else payload if payload.endswith(b"segment")
        else int.from_bytes(payload[:4])
        for opcode, payload in frames
    ]  # fmt: skip


async def test_who_joins_gets_all_from_the_newest_random_access_point() -> None:
    """Behind the init segment; and then what comes, each message as it is sent."""
    async with watched() as made:
        for number in range(6):
            made.source.send(starts=number in (0, 4))
        made.join()
        frames = await made.frames(4)
        assert kinds(frames) == ["init", b"init segment", 4, 5]
        told = frames[0][1]
        assert told["media"] == INIT.media
        assert (told["time"], told["session"]) == (160, "S1")
        assert told["live"] > 0
        made.source.send()
        made.source.tell("clock")
        assert kinds(await made.frames(2)) == [6, "clock"]
        assert not made.viewer.busy


async def test_who_comes_first_waits_for_a_random_access_point() -> None:
    """Media before it is no use to it; what everybody is told, it is told."""
    async with watched() as made:
        made.join()
        assert made.viewer.waits
        made.viewer.say('{"type": "waiting"}')
        made.source.send()
        made.source.tell("interrupted")
        made.source.send(starts=True)
        assert kinds(await made.frames(5)) == ["waiting", "interrupted", "init", b"init segment", 1]
        assert made.viewer.skipped == 0


async def test_another_init_segment_is_sent_once_before_its_media() -> None:
    async with watched() as made:
        made.join()
        made.source.send(starts=True)
        made.source.send(starts=True, init=OTHER)
        made.source.send(init=OTHER)
        made.source.send(starts=True, init=OTHER)
        expected = ["init", b"init segment", 0, "init", b"another init segment", 1, 2, 3]
        frames = await made.frames(8)
        assert kinds(frames) == expected
        assert [told["media"] for opcode, told in frames if opcode == TEXT] == [INIT.media, OTHER.media]


async def test_a_full_socket_makes_nobody_wait() -> None:
    """What it does not take is sent as it is read, whole and in order; meanwhile a task is there for it."""
    async with watched(buffer=4096) as made:
        made.join()
        sent = [made.source.send(50_000, starts=number == 0) for number in range(8)]
        assert made.viewer.busy
        frames = await made.frames(10)
        assert [payload for opcode, payload in frames if opcode == BINARY][1:] == sent
        await made.settled()
        assert made.viewer.skipped == 0
        made.source.send()
        assert kinds(await made.frames(1)) == [8]


async def test_control_frames_stand_between_whole_messages() -> None:
    """Also when a message was sent in part: they come next after it, and before the backlog."""
    async with watched(buffer=4096) as made:
        made.join()
        for number in range(3):
            made.source.send(50_000, starts=number == 0)
        made.viewer.pong(b"first")
        made.viewer.pong(b"second")
        made.viewer.ping()
        frames = await made.frames(7)
        # The opening and the first message go together.
        assert kinds(frames) == ["init", b"init segment", 0, PONG, PING, 1, 2]
        assert frames[3][1] == b"second", "of several the last is answered"


async def test_who_lags_as_far_as_is_allowed_misses_nothing() -> None:
    """What is begun is brought to its end, and what is max_lag old is not too old."""
    async with watched(buffer=4096, max_lag=5.0) as made:
        made.join()
        now = trio.current_time()
        for number in range(12):
            made.source.send(50_000, starts=number % 4 == 0, at=now + number * 0.5)
        assert kinds(await made.frames(14)) == ["init", b"init segment", *range(12)]
        assert made.viewer.skipped == 0


async def test_skipped_frames_are_counted() -> None:
    """A viewer that stops reading is, when it reads again, at the newest random access point."""
    async with watched(buffer=4096, max_lag=5.0) as made:
        made.join()
        now = trio.current_time()
        made.source.send(50_000, starts=True, at=now)
        for number in range(1, 12):
            made.source.send(50_000, starts=number % 4 == 0, at=now + number * 3)
        frames = await made.frames(8)
        assert kinds(frames) == ["init", b"init segment", 0, "skipped", 8, 9, 10, 11]
        assert frames[3][1] == {"type": "skipped", "frames": 7, "ms": 320}
        assert made.viewer.skipped == 7


async def test_who_falls_out_of_the_ring_waits_for_the_next_random_access_point() -> None:
    """Where the ring had no room for the group that it was in, and nothing has begun since."""
    async with watched(buffer=4096, memory=200_000) as made:
        made.join()
        for number in range(6):
            made.source.send(50_000, starts=number == 0)
        assert made.source.ring.newest_start is None
        assert kinds(await made.frames(3)) == ["init", b"init segment", 0]
        await made.settled()
        made.source.send()
        made.source.send(starts=True)
        frames = await made.frames(2)
        assert kinds(frames) == ["skipped", 7]
        assert frames[0][1]["frames"] == 6


async def test_the_first_cause_of_an_end_counts() -> None:
    async with watched() as made:
        made.viewer.end(4404, "gone")
        made.viewer.end(1011, "again")
        assert made.viewer.closing == (4404, "gone")
        assert made.nursery.cancel_scope.cancel_called


async def test_flush_ends_a_message_that_was_sent_in_part() -> None:
    """Then comes the close frame, and nothing of the backlog or of what was still to be told."""
    near, far = trio.socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = Client(trio.SocketStream(far))
    async with trio.open_nursery() as nursery:
        viewer = Viewer(near, nursery, Framed(), "cam")
        source = Source(Ring(2**20, 8.0), [viewer])
        viewer.attach(source.ring)
        for number in range(3):
            source.send(50_000, starts=number == 0)
        assert viewer.busy
        nursery.cancel_scope.cancel()
    found: list[tuple[int, bytes]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(viewer.flush, 4404, "gone")
        with trio.fail_after(5):
            while not found or found[-1][0] != CLOSE:
                frame = await client.frame()
                assert frame is not None
                found.append(frame)
    assert [opcode for opcode, _ in found] == [TEXT, BINARY, BINARY, CLOSE]
    assert found[-1][1] == (4404).to_bytes(2) + b"gone"
    near.close()
    far.close()


async def test_a_peer_that_has_gone_ends_its_connection_alone() -> None:
    async with watched() as made:
        made.join()
        made.source.send(starts=True)
        await made.client.stream.aclose()
        made.source.send()
        assert made.viewer.lost
        assert made.nursery.cancel_scope.cancel_called


async def test_a_plain_body_has_one_init_segment_and_no_words() -> None:
    """And is over where the session ends, behind all of it."""
    async with watched(Plain()) as made:
        made.join()
        made.viewer.say("waiting")
        first = made.source.send(starts=True)
        made.source.tell("clock")
        second = made.source.send()
        assert made.viewer.begun.is_set()
        made.source.tell("ended", ends=True)
        assert made.viewer.over
        assert made.nursery.cancel_scope.cancel_called
        with trio.CancelScope(shield=True):
            assert await made.client.status() == 200
            assert b"Content-Type: video/webm\r\n" in made.client.head
            expected = b"init segment" + first + second
            with trio.fail_after(5):
                while len(made.client._buffer) < len(expected):
                    await made.client._more()
            assert bytes(made.client._buffer) == expected


@pytest.mark.parametrize(
    "init", [OTHER, Init(INIT.media, INIT.segment, "S2", 0.0)], ids=["codecs", "session"]
)
async def test_a_plain_body_ends_where_another_init_segment_is_needed(init: Init) -> None:
    async with watched(Plain()) as made:
        made.join()
        made.source.send(starts=True)
        made.source.send(starts=True, init=init)
        assert made.viewer.over


async def test_the_same_message_is_one_object_for_everybody() -> None:
    """What is written to a viewer that keeps up is the relay's own frame: nothing is copied."""
    frame = Message(b"\x82\x01x", 2, 0.0, INIT, True, 0, 1, 0)
    assert Framed().media(frame) is frame.frame
    assert Plain().media(frame).obj is frame.frame  # type: ignore[union-attr]
