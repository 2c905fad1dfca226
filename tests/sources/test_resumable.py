"""Publishing over ``ingestd.v1`` as it should go: hello, chunks, acknowledgements, notices, endings."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio_websocket
from attrs import evolve
from structlog.testing import capture_logs

from ingestd.live.publication import Accepted, Chunk, Closing, Resume, Skip, Stats
from tests.sources.receiving import ACCEPTED, BINARY, CLOSE, KEY, TOKEN, Door, Receiver, frame, receiver
from tests.sources.speaking import V1, Speaker, chunk, opened, raw, speaker, text


async def until(condition: Any) -> None:
    """Wait for what happens across a real socket, within milliseconds."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.002)


async def left(r: Receiver) -> bool:
    """Whether the publisher of the last publication was done, once its channel is closed."""
    await r.door.all_items()
    return r.door.publications[-1].done


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/stream/live", {"key": KEY}),
        ("/stream/live?x=1", {"key": KEY}),
        (f"/stream/live/{KEY}", {}),
        (f"/{KEY}", {"key": None}),
        (f"/{KEY}", {"key": KEY}),
    ],
)
async def test_the_key_is_in_the_path_or_in_the_first_message(path: str, fields: dict[str, Any]) -> None:
    async with receiver() as r:
        client = await speaker(r, path)
        await client.send(text("open", **fields))
        assert await client.hear() == {
            "type": "hello", "stream": "demo", "session": "S1", "token": TOKEN, "next": 0, "recorder": None,
            "resumed": False, "limits": {
                "max_message": 16 * 2**20, "max_text": 16384, "window": 60.0, "ack": "written",
                "ping_interval": 60, "ping_timeout": 60,
            },
        }  # fmt: skip
        assert r.door.resumes == [None]


@pytest.mark.parametrize("offer", ["ingestd.v1", "ingestd.v2, ingestd.v1", "x,ingestd.v1 ,y"])
async def test_the_subprotocol_is_chosen_where_it_is_offered(offer: str) -> None:
    async with receiver() as r:
        client = await r.connect()
        assert await client.upgrade("/stream/live", Sec_WebSocket_Protocol=offer) == 101
        assert client.head.lower().count(b"sec-websocket-protocol: ingestd.v1") == 1


@pytest.mark.parametrize("offer", ["ingestd.v2", "INGESTD.V1", "ingestd.v1x", None])
async def test_without_it_nothing_changes(offer: str | None) -> None:
    """A publisher of plain chunks; and a path without a key is none."""
    async with receiver() as r:
        client = await r.connect()
        assert await client.upgrade(f"/{KEY}", Sec_WebSocket_Protocol=offer) == 101
        assert b"protocol:" not in client.head.lower()
        await client.send(frame(BINARY, b"plain"))
        await until(lambda: r.door.channels)
        assert await r.door.chunks.receive() == Chunk(b"plain")
        assert r.door.resumes == []
        client = await r.connect()
        assert await client.upgrade("/stream/live", Sec_WebSocket_Protocol=offer) == 404


async def test_a_real_client_speaks() -> None:
    """A library of others agrees with the handshake, hears hello, and sees the end."""
    async with receiver() as r:
        stream = await trio.open_tcp_stream("127.0.0.1", r.port)
        async with stream, trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery, stream, "127.0.0.1", "/stream/live", subprotocols=[V1]
            )
            assert socket.subprotocol == V1
            await socket.send_message('{"type":"open","key":"' + KEY + '"}')
            assert '"hello"' in await socket.get_message()
            await socket.send_message('{"type":"recorder","number":0}')
            await socket.send_message(bytes(12) + b"chunk")
            assert await r.door.chunks.receive() == Chunk(b"chunk", 0, 0)
            await socket.send_message('{"type":"end"}')
            r.door.acknowledge(1)
            heard = [await socket.get_message() for _ in range(2)]
            assert heard[0] == '{"type":"ack","next":1}'
            assert '"code":1000' in heard[1]
            with pytest.raises(trio_websocket.ConnectionClosed):
                await socket.get_message()
            nursery.cancel_scope.cancel()
        assert socket.closed is not None
        assert socket.closed.code == 1000


async def test_chunks_arrive_with_their_numbers() -> None:
    """From hello's *next* on; an empty one counts; a greater recorder begins a new container."""
    async with receiver(Door(accepts=evolve(ACCEPTED, next=41, resumed=True, recorder=2))) as r:
        client = await opened(r, recorder=2)
        await client.send(chunk(41, b"a", 2), chunk(42, b"", 2))
        await client.send(text("recorder", number=2), chunk(43, b"b" * 70_000, 2))
        await client.send(text("recorder", number=9, mime="video/webm"), chunk(44, b"\x1a", 9))
        for expected in (
            Chunk(b"a", 41, 2), Chunk(b"", 42, 2), Chunk(b"b" * 70_000, 43, 2), Chunk(b"\x1a", 44, 9)
        ):  # fmt: skip
            assert await r.door.chunks.receive() == expected


async def test_a_resume_is_handed_on() -> None:
    """Session and token to the admission; hello says where it stands."""
    accepts = evolve(ACCEPTED, next=12, resumed=True, token="another", recorder=1)
    async with receiver(Door(accepts=accepts)) as r:
        client = await speaker(r)
        await client.send(text("open", key=KEY, resume={"session": "S1", "token": TOKEN}))
        hello = await client.hear()
        assert isinstance(hello, dict)
        assert [hello[key] for key in ("next", "resumed", "recorder", "token")] == [12, True, 1, "another"]
        assert r.door.resumes == [Resume("S1", TOKEN)]


async def test_a_skip_is_handed_on() -> None:
    """The numbers go on behind it."""
    async with receiver() as r:
        client = await opened(r)
        skips = text("skip", to=9, reason="memory"), text("skip", to=11, seconds=2.5)
        await client.send(chunk(0), skips[0], chunk(9), skips[1])
        items = [await r.door.chunks.receive() for _ in range(4)]
        assert items == [Chunk(b"x", 0, 0), Skip(9, "memory"), Chunk(b"x", 9, 0), Skip(11, "", 2.5)]


async def test_what_a_publisher_claims_is_kept_for_display() -> None:
    """Its name, the type of its last recorder, its own counts; none of it with a secret in it."""
    async with receiver() as r:
        client = await opened(r, client=f"studio {KEY}")
        await client.send(text("recorder", number=1, mime=f"video/{KEY}"))
        await client.send(text("skip", to=3, reason=f"dropped {TOKEN}"))
        await client.send(text("stats", bitrate=5), text("stats", buffered_bytes=7, dropped_chunks=0))
        claims = r.door.publications[0].claims
        await until(lambda: claims.stats == Stats(7, None, 0))
        assert (claims.client, claims.mime) == ("studio [key]", "video/[key]")
        assert await r.door.chunks.receive() == Skip(3, "dropped [key]")


async def test_what_is_not_known_is_ignored() -> None:
    """Types and fields of later versions, at any time after hello."""
    async with receiver() as r:
        client = await opened(r, theme="dark")
        await client.send(text("hologram", to=[1, {"x": None}]), chunk(0), text("stats", colour="red"))
        await client.send(text("recorder", number=1, lens=2), chunk(1, recorder=1), text("hologram"))
        assert (await r.door.receive(), await r.door.receive()) == (b"x", b"x")


async def test_acknowledgements_are_told_together() -> None:
    """The latest wins: of a thousand in a second no more than a dozen are sent, the last one among them."""
    async with receiver(Door(capacity=2000)) as r:
        client = await opened(r)
        await client.send(*(chunk(number) for number in range(1000)))
        heard: list[int] = []

        async def listen() -> None:
            while True:
                message = await client.hear()
                assert isinstance(message, dict)
                assert message["type"] == "ack"
                heard.append(message["next"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for number in range(1000):
                await r.door.receive()
                r.door.acknowledge(number + 1)
                await trio.sleep(0.001)
            await until(lambda: heard[-1:] == [1000])
            nursery.cancel_scope.cancel()
        assert heard == sorted(set(heard))
        assert 3 <= len(heard) <= 30


async def test_notices_are_told_in_their_order() -> None:
    """As they are; what was told before hello comes after it."""
    door = Door(accepts=None)
    async with receiver(door) as r:
        client = await speaker(r)
        await client.send(text("open", key=KEY))
        await until(lambda: door.publications)
        door.tell(
            "state", stream="live", since=1.5, sinks=[{"name": "hls", "type": "hls", "state": "running"}]
        )
        door.accept(ACCEPTED)
        door.tell("pressure", active=True, behind_chunks=16)
        hello = await client.hear()
        assert isinstance(hello, dict)
        assert hello["type"] == "hello"
        assert await client.hear() == {
            "type": "state", "stream": "live", "since": 1.5,
            "sinks": [{"name": "hls", "type": "hls", "state": "running"}],
        }  # fmt: skip
        assert await client.hear() == {"type": "pressure", "active": True, "behind_chunks": 16}
        for i in range(100):
            door.tell("warning", code="no_data", text="é" * 1000, i=i)
        for i in range(36, 100):  # the oldest of more than 64 are forgotten
            assert await client.hear() == {"type": "warning", "code": "no_data", "text": "é" * 300, "i": i}


@pytest.mark.parametrize("acknowledged", ["before", "after"])
async def test_a_publisher_that_is_done(acknowledged: str) -> None:
    """The session is told so at once; the connection ends when all chunks are acknowledged, not earlier."""
    async with receiver() as r:
        client = await opened(r)
        await client.send(chunk(0), chunk(1), text("skip", to=5))
        if acknowledged == "before":
            assert [await r.door.chunks.receive() for _ in range(3)]
            r.door.acknowledge(5)
        await client.send(text("end"), text("stats", bitrate=1))
        assert await left(r)
        if acknowledged == "after":
            r.door.acknowledge(2)
            assert await client.hear() == {"type": "ack", "next": 2}
            with trio.move_on_after(0.3) as waiting:
                await client.hear()
            assert waiting.cancelled_caught
            r.door.acknowledge(5)
        reason = "the publisher is done: all of its chunks are in the journal"
        messages, closing = await client.hear_all()
        assert messages == [{"type": "ack", "next": 5}, {"type": "end", "code": 1000, "reason": reason}]
        assert closing == Closing(1000, reason)
        assert await client.client.end() == "closed"


async def close(r: Receiver, client: Speaker, code: int | None) -> None:
    await client.send(frame(CLOSE, code.to_bytes(2) if code else b""))


async def reset(r: Receiver, client: Speaker, code: int | None) -> None:
    client.client.reset()


async def stop(r: Receiver, client: Speaker, code: int | None) -> None:
    r.scope.cancel()


async def violate(r: Receiver, client: Speaker, code: int | None) -> None:
    await client.send(raw("?"))


@pytest.mark.parametrize(
    ("go", "code"),
    [(close, 1000), (close, None), (close, 1001), (reset, None), (stop, None), (violate, None)],
)
async def test_any_other_way_to_go_leaves_the_way_back(go: Any, code: int | None) -> None:
    """What was complete is in the channel; the session is not told that the publisher is done."""
    async with receiver() as r:
        client = await opened(r)
        await client.send(chunk(0))
        assert await r.door.receive() == b"x"
        await go(r, client, code)
        assert not await left(r)


async def test_a_publisher_that_is_done_and_then_lost_is_done() -> None:
    async with receiver() as r:
        client = await opened(r)
        await client.send(text("end"))
        await until(lambda: r.door.publications[0].done)
        client.client.reset()
        assert await left(r)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, "the stream was ended"), (4412, "taken over by another publisher"), (4500, "é" * 200)],
)
async def test_the_session_ends_the_publisher(code: int, reason: str) -> None:
    """All that it told before is said first, then ``end`` with the whole reason, then the close frame."""
    async with receiver() as r:
        client = await opened(r)
        await client.send(chunk(0))
        await r.door.receive()
        r.door.acknowledge(1)
        r.door.tell("drain", reason="restart")
        r.door.tell("warning", code="x", text="y")
        r.door.publications[0].close(code, reason)
        messages, closing = await client.hear_all()
        assert [message["type"] for message in messages] == ["ack", "drain", "warning", "end"]
        assert messages[-1] == {"type": "end", "code": code, "reason": reason}
        assert closing == Closing(code, reason.encode()[:123].decode(errors="ignore"))
        assert await client.client.end() == "closed"


async def test_a_session_that_ends_before_it_begins() -> None:
    """There is no hello, and nothing that would come after it."""
    async with receiver(Door(accepts=None)) as r:
        client = await speaker(r)
        await client.send(text("open", key=KEY))
        await until(lambda: r.door.publications)
        r.door.tell("warning", code="x")
        r.door.publications[0].close(4500, "no room for a journal")
        messages, closing = await client.hear_all()
        assert messages == [{"type": "end", "code": 4500, "reason": "no room for a journal"}]
        assert closing.code == 4500


async def test_bytes_in_any_split_are_the_same_messages() -> None:
    """One byte a segment: text, headers and chunks."""
    sent = b"".join(
        (chunk(0, b"a"), text("stats", bitrate=1), text("skip", to=3), chunk(3, b"b"), text("end"))
    )
    async with receiver() as r:
        client = await opened(r)
        for octet in sent:
            await client.send(bytes([octet]))
        assert await r.door.all_items() == [Chunk(b"a", 0, 0), Skip(3, ""), Chunk(b"b", 3, 0)]
        assert r.door.publications[0].done


async def test_a_daemon_that_stops_says_what_it_has_to_say() -> None:
    """Acknowledgement, drain, end, 1001: also when all tasks are cancelled at once."""
    async with receiver() as r:
        client = await opened(r)
        await client.send(chunk(0))
        await r.door.receive()
        r.door.acknowledge(1)
        r.door.tell("drain", reason="restart")
        r.scope.cancel()
        messages, closing = await client.hear_all()
        assert [message["type"] for message in messages] == ["ack", "drain", "end"]
        assert closing == Closing(1001, "the daemon stops")


async def test_two_publishers_and_a_takeover() -> None:
    """Each hears its own: the first that it was taken over, the second where to go on."""
    door = Door()
    async with receiver(door) as r:
        first = await opened(r)
        await first.send(chunk(0), chunk(1))
        old = door.publications[0]
        door.accepts = None
        second = await speaker(r)
        await second.send(text("open", key=KEY, resume={"session": "S1", "token": TOKEN}))
        await until(lambda: len(door.publications) == 2)
        old.acknowledge(2)
        old.close(4412, "taken over by another publisher")
        assert len([item async for item in door.channels[0]]) == 2
        door.accept(Accepted("S1", 2, resumed=True, window=60.0, token="new", recorder=0))
        messages, closing = await first.hear_all()
        assert [message["type"] for message in messages] == ["ack", "end"]
        assert closing.code == 4412
        hello = await second.hear()
        assert isinstance(hello, dict)
        assert (hello["next"], hello["resumed"]) == (2, True)
        await second.send(text("recorder", number=0), chunk(2))
        assert await door.chunks.receive() == Chunk(b"x", 2, 0)
        assert not old.done


async def test_a_session_that_drops_its_channel_is_a_failed_session() -> None:
    async with receiver() as r:
        client = await opened(r)
        r.door.chunks.close()
        await client.send(chunk(0))
        assert await client.closing() == (4500, "the session ended")


async def test_in_the_log() -> None:
    """As a plain publisher, with the subprotocol and the name that it gave itself; no key, no token."""
    with capture_logs() as logs:
        async with receiver() as r:
            client = await opened(r, client=f"studio {KEY}")
            await client.send(chunk(0), chunk(1, b""), text("end"))
            r.door.acknowledge(2)
            await client.closing()
    (connected, gone) = logs
    assert (connected["subprotocol"], connected["client"]) == ("ingestd.v1", "studio [key]")
    assert (gone["by"], gone["code"], gone["chunks"], gone["empty"]) == ("ingestd", 1000, 2, 1)
    assert KEY not in repr(logs) + repr(r.door.publications)
    assert TOKEN not in repr(logs) + repr(r.door.publications)
