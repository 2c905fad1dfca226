"""Before the upgrade: every request that is none is answered, and none of them stays."""

from __future__ import annotations

import pytest
import trio

from tests.sources.receiving import BINARY, KEY, Client, frame, receiver, request

PATH = f"/stream/live/{KEY}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/stream/live/",
        f"/stream/watch/{KEY}",
        f"/stream/live/{KEY}/",
        f"/live/{KEY}",
        f"//{KEY}",
        "/" + "k" * 129,
        "/favicon.ico",
        "/%41%42",
        f"/stream/live/{KEY}\x7f".replace("\x7f", "~"),
    ],
)
async def test_other_paths_are_not_found(path: str) -> None:
    """404 with a text body, before the upgrade; what was asked for is not echoed."""
    async with receiver() as r:
        client = await r.connect()
        assert await client.upgrade(path) == 404
        assert b"101" not in client.head
        body = await client.body()
        assert "/stream/live/{key}" in body
        assert KEY not in body
        assert r.door.asked == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Connection": None}, 426),
        ({"Connection": "close"}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Host": None}, 400),
        ({"Content-Length": "5"}, 400),
        ({"X-Big": "x" * 40_000}, 431),
    ],
)
async def test_a_request_that_is_no_handshake(changes: dict[str, str | None], status: int) -> None:
    """Each fault has its status and a text that says what to do."""
    async with receiver() as r:
        client = await r.connect()
        assert await client.upgrade(PATH, **changes) == status
        assert len(await client.body()) > 5
        assert r.door.asked == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(PATH).replace(b"GET", b"POST"), 405),
        (request(PATH).replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (b"\x00\xff garbage \r\n\r\n", 400),
        (b"hello?\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400),
        (b"GET /" + b"a" * 40_000, 431),
        (request(PATH) + request(PATH), 400),
        (request(PATH) + frame(BINARY, b"early"), 400),
    ],
    ids=["post", "http10", "garbage", "no-http", "tls", "long-line", "pipelined", "early-frame"],
)
async def test_bytes_that_are_no_handshake(sent: bytes, status: int) -> None:
    """They are answered and the connection is closed; the next publisher is served."""
    async with receiver() as r:
        client = await r.connect()
        await client.send(sent)
        assert await client.status() == status
        assert await client.end() == "closed"
        await r.publisher()


@pytest.mark.parametrize(
    "changes",
    [
        {"Host": "caf\u00e9." + "x" * 80},  # over the limit of a DNS label, and not ASCII
        {"Sec-WebSocket-Protocol": "\u00fc, other"},
        {"Connection": "\u00fc, Upgrade"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
    ],
)
async def test_headers_of_any_text_do_no_harm(changes: dict[str, str | None]) -> None:
    """Neither odd text nor offers matter: no extension and no subprotocol is ever chosen."""
    async with receiver() as r:
        client = await r.connect()
        assert await client.upgrade(PATH, **changes) == 101
        assert b"extensions" not in client.head.lower()
        assert b"protocol:" not in client.head.lower()
        # With deflate not negotiated, RSV1 is a protocol error (RFC 6455 section 5.2).
        await client.send(bytes([0xC2]) + frame(BINARY, b"x")[1:])
        assert (await client.close_code())[0] == 1002


async def test_the_handshake_in_single_bytes() -> None:
    """A slow client is a client."""
    async with receiver() as r:
        client = await r.connect()
        for octet in request(PATH):
            await client.send(bytes([octet]))
        assert await client.status() == 101


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_handshake_that_never_ends_is_cut(sent: bytes) -> None:
    """Whether it says nothing or keeps adding headers: 408 after handshake_timeout."""
    async with receiver(handshake_timeout=0.3) as r:
        client = await r.connect()
        await client.send(sent)

        async def drip() -> None:
            while sent:
                await client.send(b"X-More: 1\r\n")
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await client.status() == 408
            nursery.cancel_scope.cancel()


async def test_clients_that_leave_in_the_handshake() -> None:
    """A reset, a close or a half-close at any point of it is nobody's error."""
    async with receiver() as r:
        for size in range(0, len(request(PATH)), 7):
            for leave in (Client.reset, lambda client: client.stream.socket.close()):
                client = await r.connect()
                await client.send(request(PATH)[:size])
                leave(client)
        client = await r.connect()
        await client.send(request(PATH)[:-2])
        await client.stream.send_eof()
        assert await client.end() == "closed"
        await r.publisher()


async def test_handshakes_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so at once; a place becomes free with each that ends."""
    monkeypatch.setattr("ingestd.sources.websocket.MAX_HANDSHAKES", 2)
    async with receiver() as r:
        first, second, third = [await r.connect() for _ in range(3)]
        assert await third.status() == 503
        assert await first.upgrade() == 101
        assert await second.upgrade() == 101
        await r.publisher()
