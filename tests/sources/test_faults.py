"""Publishers that break a rule: each has its own code, and nobody else notices."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.sources.receiving import BINARY, CLOSE, KEY, PING, TEXT, Door, frame, receiver, request


async def test_text_is_refused_and_what_came_before_is_kept() -> None:
    """1003, behind the binary messages that precede it in the same segment."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"good") + frame(TEXT, b"hello") + frame(BINARY, b"late"))
        assert await r.door.all_chunks() == [b"good"]
        code, reason = await client.close_code()
        assert (code, "binary" in reason) == (1003, True)
        assert await client.end() == "closed"


async def test_the_longest_message_is_taken_and_one_byte_more_is_not() -> None:
    """1009 says the limit."""
    async with receiver(max_message=100_000) as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"x" * 100_000))
        assert len(await r.door.receive()) == 100_000
        await client.send(frame(BINARY, b"x" * 100_001))
        assert await r.door.all_chunks() == []
        assert await client.close_code() == (1009, "message longer than 100000 bytes")
        assert await client.end() == "closed"


async def test_a_message_over_the_limit_is_refused_by_its_header() -> None:
    """Nothing of its payload is waited for, and fragments are counted together."""
    async with receiver(max_message=2**16) as r:
        client = await r.publisher()
        await client.send(frame(BINARY, bytes(2**20))[:14])
        assert (await client.close_code())[0] == 1009
        client = await r.publisher()
        await client.send(frame(BINARY, bytes(2**15), fin=False) + frame(0, bytes(2**15 + 1))[:8])
        assert (await client.close_code())[0] == 1009


async def test_a_message_of_endless_empty_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames without payload cost us memory all the same."""
    monkeypatch.setattr("ingestd.sources.framing.MAX_FRAMES", 50)
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, fin=False) + frame(0, fin=False) * 60)
        assert await client.close_code() == (1009, "message of more than 50 frames")


@pytest.mark.parametrize(
    "sent",
    [
        frame(BINARY, b"x", mask=False),
        frame(0x3, b"reserved opcode"),
        frame(0xB, b"reserved control opcode"),
        frame(0, b"continuation of nothing"),
        frame(BINARY, b"a", fin=False) + frame(BINARY, b"not a continuation"),
        frame(PING, b"p", fin=False),
        frame(PING, b"p" * 126),
        bytes([0xA2]) + frame(BINARY, b"x")[1:],
        frame(CLOSE, b"\x03"),
        frame(CLOSE, (999).to_bytes(2)),
        frame(CLOSE, (1005).to_bytes(2)),
        request(f"/{KEY}"),
        b"\xff" * 100,
    ],
    ids=[
        "unmasked", "opcode", "control-opcode", "continuation", "interleaved", "split-ping", "long-ping",
        "rsv", "close-1-byte", "close-999", "close-1005", "second-handshake", "garbage",
    ],
)  # fmt: skip
async def test_protocol_errors_are_answered_1002(sent: bytes) -> None:
    """RFC 6455 section 7.1.7: fail the connection, and say so in a close frame."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"good") + sent)
        assert await r.door.receive() == b"good"
        code, reason = await client.close_code()
        assert code == 1002
        assert reason.startswith("protocol error: ")
        client.reset()
        await r.publisher()


async def test_a_close_reason_that_is_not_utf8() -> None:
    """RFC 6455 section 8.1: 1007."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(CLOSE, (1000).to_bytes(2) + b"\xff\xfe"))
        assert (await client.close_code())[0] == 1007


async def test_a_flood_during_the_close_does_not_keep_the_code_away() -> None:
    """The code arrives although the sender had megabytes under way when it was refused."""
    async with receiver() as r:
        client = await r.publisher()
        await client.send(frame(TEXT, b"x"))
        for _ in range(200):
            await client.send(frame(BINARY, bytes(60_000)))
        assert (await client.close_code())[0] == 1003
        assert await client.end() == "closed"


async def test_pings_after_our_close_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """A close under way, and the peer still sends pings and messages before it answers."""
    async with receiver() as r:
        client = await r.publisher()
        r.door.publications[0].close(1000, "ended")
        for _ in range(20):
            await client.send(frame(PING, b"?") + frame(BINARY, b"x"))
        assert await client.close_code() == (1000, "ended")
        assert await client.end() == "closed"
    assert "connection_failed" not in caplog.text


async def test_a_bug_ends_one_stream_and_not_all() -> None:
    """An exception that nobody expected: 1011 for this publisher, the others go on."""

    def broken(key: str) -> None:
        if door.asked == 2:
            raise KeyError(key)

    door = Door(on_admit=broken)
    async with receiver(door) as r:
        healthy = await r.publisher()
        client = await r.publisher()
        assert await client.close_code() == (1011, "internal error")
        await healthy.send(frame(BINARY, b"still here"))
        assert await door.receive() == b"still here"


async def test_a_bug_in_the_handshake_ends_one_connection_and_not_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is logged without the exception's own words, which may quote the request."""

    async def broken(stream: object) -> None:
        raise RuntimeError(KEY)

    async with receiver() as r:
        healthy = await r.publisher()
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr("ingestd.sources.websocket.read_upgrade", broken)
            client = await r.connect()
            assert await client.end() == "closed"
        assert [log["event"] for log in logs] == ["connection_failed"]
        assert "RuntimeError" in logs[0]["traceback"]
        assert KEY not in repr(logs)
        await healthy.send(frame(BINARY, b"still here"))
        assert await r.door.receive() == b"still here"
