"""Publishing as it should go: paths, messages, endings."""

from __future__ import annotations

import pytest
import trio
import trio_websocket

from ingestd.errors import PublishRefused
from ingestd.live.publication import Chunk
from tests.sources.receiving import BINARY, CLOSE, KEY, PING, PONG, TEXT, Door, frame, receiver


@pytest.mark.parametrize("path", [f"/stream/live/{KEY}", f"/{KEY}", f"/{KEY}?take=2"])
async def test_both_paths_publish(path: str) -> None:
    """Chunks arrive as they were sent; the client's normal close is answered and ends the channel."""
    async with receiver() as r:
        client = await r.publisher(path)
        await client.send(frame(BINARY, b"abc") + frame(BINARY, b"d" * 70_000))
        await client.send(frame(CLOSE, (1000).to_bytes(2) + b"done"))
        assert await r.door.all_chunks() == [b"abc", b"d" * 70_000]
        assert await client.close_code(reply=False) == (1000, "done")
        assert await client.end() == "closed"


@pytest.mark.parametrize(
    ("sent", "done"),
    [
        (frame(CLOSE, (1000).to_bytes(2) + b"bye"), True),
        (frame(CLOSE), True),
        (frame(CLOSE, (1001).to_bytes(2)), False),
        (frame(CLOSE, (4000).to_bytes(2)), False),
        (frame(TEXT, b"?"), False),
        (frame(0x3), False),
        (b"", False),
    ],
    ids=["1000", "no code", "going away", "4000", "violation", "protocol error", "network"],
)
async def test_a_normal_close_says_that_the_publisher_is_done(sent: bytes, done: bool) -> None:
    """Anything else leaves it the way back; the session knows which before its channel is closed."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"x") + sent)
        if not sent:
            await client.stream.send_eof()
        assert await r.door.all_chunks() == [b"x"]
        assert r.door.publications[0].done is done


@pytest.mark.parametrize("ours", ["the session", "the daemon"])
async def test_an_end_of_ours_leaves_the_way_back(ours: str) -> None:
    async with receiver() as r:
        client = await r.publisher()
        if ours == "the session":
            r.door.publications[0].close(1000, "ended")
        else:
            r.scope.cancel()
        await client.close_code()
        assert await r.door.all_chunks() == []
        assert not r.door.publications[0].done


async def test_a_real_client_publishes() -> None:
    """trio-websocket's own client connects, sends, and sees a clean close."""
    async with receiver() as r:
        url = f"ws://127.0.0.1:{r.port}/{KEY}"
        async with trio_websocket.open_websocket_url(url) as socket:
            await socket.send_message(b"chunk")
            assert await r.door.receive() == b"chunk"
        assert socket.closed is not None
        assert socket.closed.code == 1000


async def test_empty_and_one_byte_messages_are_normal() -> None:
    """An empty message is not forwarded, a one-byte message is."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY) + frame(BINARY, b"\x1a") + frame(BINARY) + frame(BINARY, b"E"))
        assert await r.door.receive() == b"\x1a"
        assert await r.door.receive() == b"E"


async def test_fragments_with_pings_between_are_one_chunk() -> None:
    """A fragmented message is one chunk; a ping in its middle is answered with its payload."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"one ", fin=False) + frame(PING, b"hey"))
        await client.send(frame(0, b"two ", fin=False) + frame(0, fin=False) + frame(0, b"three"))
        assert await r.door.receive() == b"one two three"
        assert await client.frame() == (PONG, b"hey")


async def test_bytes_in_any_split_give_the_same_chunks() -> None:
    """One byte a segment, through headers of all three lengths."""
    payloads = [b"", b"x", b"y" * 125, b"z" * 126, b"w" * 66_000]
    sent = b"".join(frame(BINARY, payload) for payload in payloads)
    async with receiver() as r:
        client = await r.publisher()
        for i in range(600):
            await client.send(sent[i : i + 1])
        await client.send(sent[600:] + frame(CLOSE))
        assert await r.door.all_chunks() == payloads[1:]


async def test_two_publishers_do_not_mix() -> None:
    """Each connection has its own channel and its own end."""
    async with receiver() as r:
        first, second = await r.publisher(), await r.publisher()
        await second.send(frame(BINARY, b"2"))
        await first.send(frame(BINARY, b"1"))
        one, two = r.door.channels
        assert (await one.receive(), await two.receive()) == (Chunk(b"1"), Chunk(b"2"))
        first.reset()
        with pytest.raises(trio.EndOfChannel):
            await one.receive()
        await second.send(frame(BINARY, b"2 again"))
        assert await two.receive() == Chunk(b"2 again")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (4401, "unknown stream key"),
        (4409, "stream already live"),
        (4429, "stream limit of the server reached"),
    ],
)
async def test_a_refusal_is_told_after_the_upgrade(code: int, reason: str) -> None:
    """A page can read a close code, but not the status of a failed upgrade."""
    async with receiver(Door(refusal=PublishRefused(code, reason))) as r:
        client = await r.publisher()
        assert await client.close_code() == (code, reason)
        assert await client.end() == "closed"


@pytest.mark.parametrize(("code", "reason"), [(1000, "ended"), (4415, "not media"), (4500, "disk full")])
async def test_the_session_ends_the_publisher(code: int, reason: str) -> None:
    """Whatever the session asks for is what the publisher is told, also in the midst of its sending."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"x" * 1000) * 20)
        await r.door.receive()
        r.door.publications[0].close(code, reason)
        await client.send(frame(BINARY, b"x" * 1000) * 200)
        assert await client.close_code() == (code, reason)
        assert await client.end() == "closed"


async def test_a_session_that_drops_its_channel_is_a_failed_session() -> None:
    """Without a word from the session the publisher is told 4500; with one, that."""
    async with receiver() as r:
        client = await r.publisher()
        r.door.chunks.close()
        await client.send(frame(BINARY, b"x"))
        await trio.sleep(0.05)
        r.door.publications[0].close(4500, "encoder failed")
        assert await client.close_code() == (4500, "encoder failed")
        client = await r.publisher()
        r.door.chunks.close()
        await client.send(frame(BINARY, b"x"))
        assert await client.close_code() == (4500, "the session ended")


async def test_a_close_frame_that_is_never_answered_ends_in_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's close is bounded in time whatever the peer does."""
    monkeypatch.setattr("ingestd.sources.websocket.CLOSE_TIMEOUT", 0.2)
    async with receiver() as r:
        client = await r.publisher()
        r.door.publications[0].close(1000, "ended")
        assert await client.close_code(reply=False) == (1000, "ended")
        assert await client.end() == "reset"


async def test_what_was_complete_before_a_reset_is_kept() -> None:
    """A publisher that vanishes leaves all of its complete messages, and no part of the last."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"whole") + frame(BINARY, b"partial")[:-3])
        assert await r.door.receive() == b"whole"
        client.reset()
        with pytest.raises(trio.EndOfChannel):
            await r.door.receive()


async def test_cancelling_tells_publishers_1001_and_closes_everything() -> None:
    """Publishers, half-done handshakes and the listener all end; a silent peer does not hold it up."""
    async with receiver() as r:
        client = await r.publisher()
        silent = await r.publisher()
        half = await r.connect()
        await half.send(b"GET /")
        r.scope.cancel()
        assert await client.close_code() == (1001, "the daemon stops")
        assert await client.end() == "closed"
        assert await silent.end() == "reset"
        assert await half.end() in ("closed", "reset")
        for channel in r.door.channels:
            with pytest.raises(trio.EndOfChannel):
                await channel.receive()
        with pytest.raises(OSError, match=r"refused|reset"):
            await r.connect()
