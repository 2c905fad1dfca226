"""One viewer's socket: whole frames in order, whatever it takes at a time, and nothing ever waits for it."""

from __future__ import annotations

import socket

import pytest
import trio

from ingestd.live.ring import Init, Message, Ring
from ingestd.live.viewer import Framed, Plain, Viewer
from ingestd.server_frames import BINARY, CLOSE, PING, PONG, TEXT
from tests.live.viewers import INIT, OTHER, Source, kinds, watched
from tests.sources.receiving import Client


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
