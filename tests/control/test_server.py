"""The listener: a client that reads nothing does not keep its answer for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from quart import Response
from quart_trio import QuartTrio

from ingestd.control import server
from ingestd.control.bodies import endless
from tests.auth.serving import listener


async def test_a_client_that_takes_nothing_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed and its place given back; one that is only slow goes on."""
    monkeypatch.setattr(server, "STALL", 0.25)
    over = trio.Event()
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
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
