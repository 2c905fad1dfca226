"""The listener: no client keeps a connection for ever, and none speaks anything but HTTP/1.1."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
from quart import Response
from quart_trio import QuartTrio

from ingestd.control import server
from ingestd.control.bodies import endless
from tests.auth.serving import listener
from tests.daemon.tools import COPY, MKV
from tests.support.daemon import daemon


async def test_a_client_that_takes_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed and its place given back; one that is only slow goes on."""
    monkeypatch.setattr(server, "STALL", 0.25)
    over = trio.Event()
    sent = 0

    async def flood() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        while True:
            sent += 2**18
            yield bytes(2**18)
            await trio.lowlevel.checkpoint()

    def routes(app: QuartTrio) -> None:
        async def view() -> Response:
            return endless(flood(), over.set, "video/webm")

        app.add_url_rule("/flood", "flood", view)

    async with listener(tmp_path, routes=routes) as made:
        host, port = made.address.split(":")
        with trio.fail_after(20):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                for _ in range(10):
                    await stream.receive_some(2**16)
                    await trio.sleep(0.1)
                assert not over.is_set()
                await over.wait()
        before = sent
        await trio.sleep(0.2)
        assert sent == before


HOST = b"Host: 127.0.0.1\r\n"
#: From a page that may not.
STRANGE = (
    b"POST /v1/streams HTTP/1.1\r\n" + HOST + b"Origin: https://evil.example\r\nContent-Length: %d\r\n\r\n"
)
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


async def spoken(address: str, *sent: bytes) -> bytes:
    """All that is answered, up to the end of the connection, which must come."""
    host, port = address.split(":")
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            for part in sent:
                await stream.send_all(part)
            return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",  # kept, and closed when it is idle
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /hea",
        b"",
    ],
)
async def test_a_connection_ends(
    tmp_path: Path, request_head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the client has asked for that, and when it says nothing more."""
    monkeypatch.setattr(server, "IDLE", 0.2)
    async with listener(tmp_path) as made:
        answer = await spoken(made.address, request_head)
        assert answer.startswith(b"HTTP/1.1 200 ") is bool(request_head)
        assert answer.endswith(b"}\n") is bool(request_head)


async def test_a_connection_is_kept_for_what_follows(tmp_path: Path) -> None:
    """Two requests, one after the other's answer, or both at once."""
    one = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    async with listener(tmp_path) as made:
        assert (await spoken(made.address, one, one)).count(b'"status":"ok"') == 2
        host, port = made.address.split(":")
        with trio.fail_after(10):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                for _ in range(3):
                    await stream.send_all(one)
                    answer = b""
                    while not answer.endswith(b"}\n"):
                        answer += await stream.receive_some()


async def test_connections_are_limited(tmp_path: Path) -> None:
    """One too many is told to come again, and finds room once another has gone."""
    one = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    with daemon(tmp_path, COPY + MKV, control="max_connections = 10\n") as running:
        host, port = running.control.split(":")
        async with AsyncExitStack() as held:
            streams = [
                await held.enter_async_context(await trio.open_tcp_stream(host, int(port))) for _ in range(10)
            ]
            for stream in streams:
                await stream.send_all(one)
                assert await stream.receive_some()
            refused = await spoken(running.control, one)
            assert refused.startswith(b"HTTP/1.1 503 ")
            head, _, body = refused.partition(b"\r\n\r\n")
            assert b"\r\nRetry-After: 1\r\n" in head
            assert b"\r\nContent-Length: %d\r\n" % len(body) in head
            assert "control.max_connections" in json.loads(body)["detail"]
        gone = partial(spoken, running.control, one.replace(b"1.1", b"1.0"))
        with trio.fail_after(10):
            while not (await gone()).startswith(b"HTTP/1.1 200 "):  # noqa: ASYNC110  it sees them go soon
                await trio.sleep(0.05)


async def test_an_answer_before_the_body_is_read(tmp_path: Path) -> None:
    """Who sends a large body to where it is refused gets the refusal, and no broken connection."""
    async with listener(tmp_path) as made:
        for size in (2**19, 2**24):
            body = [b"x" * 2**16] * (size // 2**16)
            assert (await spoken(made.address, STRANGE % size, *body)).startswith(b"HTTP/1.1 403 ")


async def test_a_body_that_does_not_come_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is out, and the connection ends, though the client neither sends nor ends."""
    monkeypatch.setattr(server, "LINGER", 0.2)
    async with listener(tmp_path) as made:
        assert (await spoken(made.address, STRANGE % 9)).startswith(b"HTTP/1.1 403 ")


async def test_there_is_no_http_2(tmp_path: Path) -> None:
    """A wish to upgrade is passed over; what begins as HTTP/2 is no request."""
    async with listener(tmp_path) as made:
        answer = await spoken(made.address, b"GET /healthz HTTP/1.1\r\n" + HOST + UPGRADE)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert (await spoken(made.address, PREFACE)).startswith(b"HTTP/1.1 4")
