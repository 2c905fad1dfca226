"""Chromium really records and sends, and what the page says it sent is what arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from tests.support import counting
from tests.support.publisher import Published, open_publisher, publish


@asynccontextmanager
async def receiver(received: list[bytes], limit: int = 10**6) -> AsyncIterator[str]:
    """A WebSocket server that keeps what it gets and closes with 4000 after *limit* messages."""

    async def take(request: WebSocketRequest) -> None:
        if request.path == "/refused":
            await request.reject(403)
            return
        socket = await request.accept()
        try:
            while len(received) < limit:
                message = await socket.get_message()
                assert isinstance(message, bytes)
                received.append(message)
            await socket.aclose(4000, "enough")
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        serve = partial(serve_websocket, take, "127.0.0.1", 0, None, max_message_size=2**24)
        server = await nursery.start(serve)
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("no_processes_left")
async def test_publishes_the_numbered_canvas(tmp_path: Path) -> None:
    """A recording with numbers that go up, and with beeps at the flashes, arrives byte for byte."""
    received: list[bytes] = []
    async with receiver(received) as url:
        sent = await publish(f"{url}/k", 4)
    assert sent.chunks == received
    assert sent.errors == []
    assert (sent.close_code, sent.close_reason) == (1000, "done")
    assert sent.mime == "video/webm;codecs=vp8,opus"
    path = tmp_path / "a.webm"
    path.write_bytes(sent.data)
    frames = counting.read_video(path)
    numbers = [number for _, number in frames]
    assert len(frames) > 10
    assert counting.NO_NUMBER not in numbers
    assert numbers == sorted(numbers)
    assert counting.continuous(frames)
    assert counting.decode_errors(path) == []
    assert abs(counting.av_offset(path)) < 0.25


async def test_publishes_the_fake_camera_again_and_again(tmp_path: Path) -> None:
    """One page can start a second recorder; H.264 comes as Matroska whatever was asked for."""
    received: list[bytes] = []
    results: list[Published] = []
    async with receiver(received) as url, open_publisher() as publisher:
        for mime in ("video/webm;codecs=h264", "video/webm;codecs=vp9,opus"):
            await publisher.start(url, mime=mime, source="camera")
            await trio.sleep(1.5)
            results.append(await publisher.stop())
    assert [result.mime for result in results] == [
        "video/x-matroska;codecs=avc1,opus",
        "video/webm;codecs=vp9,opus",
    ]
    assert results[0].chunks + results[1].chunks == received
    for at, result in enumerate(results):
        path = tmp_path / f"{at}.mkv"
        path.write_bytes(result.data)
        assert len(counting.read_video(path)) > 5


async def test_changes_its_recorder_on_one_socket(tmp_path: Path) -> None:
    """Each recorder is a file of its own, begun with a message of its own; the numbers go on."""
    received: list[bytes] = []
    async with receiver(received) as url, open_publisher() as publisher:
        await publisher.start(url, width=320, height=180)
        await publisher.sending()
        await publisher.change(mime="audio/webm;codecs=opus", video=False)
        await publisher.sending()
        await publisher.change(mime="video/webm;codecs=vp9,opus", width=180, height=320)
        await publisher.sending()
        sent = await publisher.stop()
    assert sent.chunks == received
    first, second, third = sent.recorders
    assert (first.mime, second.mime) == ("video/webm;codecs=vp8,opus", "audio/webm;codecs=opus")
    assert third.mime == "video/webm;codecs=vp9,opus"
    numbers: list[int] = []
    for at, one in enumerate((first, second, third)):
        path = tmp_path / f"{at}.webm"
        path.write_bytes(one.data)
        assert counting.decode_errors(path) == []
        numbers += [number for _, number in counting.read_video(path)] if one is not second else []
    assert counting.NO_NUMBER not in numbers
    assert numbers == sorted(numbers)


async def test_reports_how_the_server_ended_it() -> None:
    """A refused handshake and a close by the server come back as the browser saw them."""
    received: list[bytes] = []
    async with receiver(received, limit=3) as url, open_publisher() as publisher:
        await publisher.start(f"{url}/refused")
        refused = await publisher.stop()
        await publisher.start(url)
        await publisher.wait_closed()
        closed = await publisher.stop()
    assert (refused.close_code, refused.chunks) == (1006, [])
    assert (closed.close_code, closed.close_reason) == (4000, "enough")
    assert closed.chunks[:3] == received
