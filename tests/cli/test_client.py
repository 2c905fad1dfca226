"""The client as applications use it: files cut as a recorder cuts, publishing against a server of ours."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from ingestd.client import ConnectionFailed, Recorded, index, publish_plain, recorded_chunks
from ingestd.client.recorded import TIMESLICE
from ingestd.errors import MediaError
from ingestd.media.frames import Frame
from ingestd.media.webm_demux import Demuxer
from tests.support.captures import Capture, capture, captures

SIMPLE_BLOCK, BLOCK_GROUP = 0xA3, 0xA0


async def taken(recorded: Recorded, *, loop: bool = False, seconds: float | None = None) -> list[bytes]:
    """All chunks, without pauses."""
    chunks = recorded_chunks(recorded, speed=0, loop=loop, seconds=seconds)
    async with aclosing(chunks):
        return [chunk async for _, chunk in chunks]


@pytest.mark.parametrize("source", captures(), ids=lambda source: source.name)
async def test_a_recording_is_cut_as_a_recorder_cuts(source: Capture) -> None:
    """Every byte once and in order; each chunk but a recorder's last ends one byte into a block."""
    recorded = index(source.path)
    chunks = await taken(recorded)
    assert b"".join(chunks) == source.data()
    starts = {0, len(source.data())}
    for data in source.recorders():
        starts.add(min(starts) + len(data))
    at = 0
    for chunk in chunks:
        at += len(chunk)
        assert at in starts or chunk[-1] in (SIMPLE_BLOCK, BLOCK_GROUP)
    assert [cut.at for cut in recorded.cuts] == sorted(cut.at for cut in recorded.cuts)
    assert len(chunks) <= math.ceil(recorded.duration / TIMESLICE) + len(source.recorders())


@pytest.mark.parametrize("source", captures(), ids=lambda source: source.name)
def test_its_duration_is_that_of_its_frames(source: Capture) -> None:
    """From the first frame to the last, recorder by recorder."""
    expected = 0.0
    for data in source.recorders():
        times = [event.timestamp for event in Demuxer().feed(data) if isinstance(event, Frame)]
        expected += (max(times) - times[0]) / 1e9 if times else 0.0
    assert index(source.path).duration == pytest.approx(expected, abs=0.02)


async def test_it_is_paced_by_its_timestamps(autojump_clock: trio.abc.Clock) -> None:
    """A chunk comes when its last frame had been recorded, at half the time with twice the speed."""
    recorded = index(capture("cv-vp8-250.webm").path)
    start = trio.current_time()
    chunks = recorded_chunks(recorded, speed=2)
    async with aclosing(chunks):
        async for at, _ in chunks:
            assert trio.current_time() - start == pytest.approx(at / 2, abs=0.05)
    assert trio.current_time() - start == pytest.approx(recorded.duration / 2, abs=0.05)


async def test_a_loop_repeats_what_is_whole(tmp_path: Path) -> None:
    """Again from the first byte, without the element that the end cut short; *seconds* end it."""
    recorded = index(capture("cv-vp8-250.webm").path)
    assert recorded.whole < recorded.path.stat().st_size
    whole = recorded.path.read_bytes()[: recorded.whole]
    data = b"".join(await taken(recorded, loop=True, seconds=10))
    assert data.startswith(whole + whole[:1000])
    events = Demuxer().feed(data)
    assert len(events) > 2 * len(Demuxer().feed(whole))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is no media"),
        (b"\0\0\0\x20ftypisom", "neither WebM nor Matroska"),
        (b"\x1a\x45\xdf\xa3\x80", "there is no media"),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\0", "cannot begin an element id"),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\xec\xff", "may not have an unknown size"),
    ],
)
def test_a_file_that_cannot_be_published(tmp_path: Path, data: bytes, why: str) -> None:
    """MediaError names why."""
    file = tmp_path / "file.webm"
    file.write_bytes(data)
    with pytest.raises(MediaError, match=why):
        index(file)


async def forever(size: int) -> AsyncGenerator[bytes, None]:
    """Chunks without end."""
    while True:
        yield bytes(size)


async def never() -> AsyncGenerator[bytes, None]:
    """A source that has nothing to say."""
    yield b"first"
    await trio.sleep_forever()


async def server(nursery: trio.Nursery, talk: object) -> str:
    """A WebSocket server that does *talk* with each client; its URL."""

    async def handle(request: WebSocketRequest) -> None:
        await talk(await request.accept())  # type: ignore[operator]

    made = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", 0, None))
    return f"ws://127.0.0.1:{made.port}/stream/live/key"


async def test_a_server_that_closes_is_noticed_at_once(nursery: trio.Nursery) -> None:
    """Even while the source is silent: its code and reason, and what was sent."""

    async def refuse(socket: WebSocketConnection) -> None:
        await socket.get_message()
        await socket.aclose(4409, "taken")

    with trio.fail_after(5):
        async with aclosing(never()) as chunks:
            closed = await publish_plain(await server(nursery, refuse), chunks)
    assert (closed.code, closed.reason, closed.complete) == (4409, "taken", False)
    assert (closed.chunks, closed.bytes) == (1, 5)


async def test_a_server_that_does_not_read_holds_the_source_back(nursery: trio.Nursery) -> None:
    """Nothing is buffered beyond the sockets: the source is asked for no more."""
    pulled = 0

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal pulled
        async with aclosing(forever(2**20)) as chunks:
            async for chunk in chunks:
                pulled += 1
                yield chunk

    async def stall(socket: WebSocketConnection) -> None:
        await trio.sleep_forever()

    url = await server(nursery, stall)

    async def push() -> None:
        async with aclosing(source()) as chunks:
            await publish_plain(url, chunks)

    nursery.start_soon(push)
    before = -1
    while before != pulled:
        before = pulled
        await trio.sleep(0.5)
    assert 0 < pulled < 32
    nursery.cancel_scope.cancel()


async def test_cancelled_it_closes_in_order(nursery: trio.Nursery) -> None:
    """The server gets a close frame with 1000, not a broken connection."""
    codes: list[int | None] = []
    first, over = trio.Event(), trio.Event()

    async def listen(socket: WebSocketConnection) -> None:
        try:
            while True:
                await socket.get_message()
                first.set()
        except ConnectionClosed as closed:
            codes.append(closed.reason.code if closed.reason else None)
            over.set()

    url = await server(nursery, listen)
    async with trio.open_nursery() as publishing:
        publishing.start_soon(publish_plain, url, never())
        await first.wait()
        publishing.cancel_scope.cancel()
    with trio.fail_after(5):
        await over.wait()
    assert codes == [1000]


async def test_what_the_source_raises_arrives_as_it_was(nursery: trio.Nursery) -> None:
    """Not in a group; the connection is closed in order."""

    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise MediaError(7, "broken")

    async def listen(socket: WebSocketConnection) -> None:
        while True:
            try:
                await socket.get_message()
            except ConnectionClosed:
                return

    url = await server(nursery, listen)
    with pytest.raises(MediaError, match="byte 7: broken"):
        await publish_plain(url, broken())


async def test_over_tls(nursery: trio.Nursery) -> None:
    """wss: publishes to a server that the context trusts."""
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)

    async def listen(request: WebSocketRequest) -> None:
        socket = await request.accept()
        with suppress(ConnectionClosed):
            while True:
                await socket.get_message()

    made = await nursery.start(partial(serve_websocket, listen, "127.0.0.1", 0, serving))
    url = f"wss://127.0.0.1:{made.port}/stream/live/key"
    recorded = index(capture("cv-vp8-250.webm").path)

    async def chunks() -> AsyncGenerator[bytes, None]:
        async for _, chunk in recorded_chunks(recorded, speed=0):
            yield chunk

    closed = await publish_plain(url, chunks(), ssl_context=trusting)
    assert (closed.code, closed.complete, closed.bytes) == (1000, True, recorded.path.stat().st_size)


async def test_a_certificate_that_nobody_signed(nursery: trio.Nursery) -> None:
    """It is refused with OpenSSL's reason, before the key is sent."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(serving)
    received: list[bytes] = []

    async def listen(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            received.append(bytes(await stream.receive_some()))

    [listener] = await nursery.start(partial(trio.serve_ssl_over_tcp, listen, 0, serving, host="127.0.0.1"))
    port = listener.transport_listener.socket.getsockname()[1]
    with pytest.raises(ConnectionFailed, match="not trusted: unable to get local issuer"):
        await publish_plain(f"wss://127.0.0.1:{port}/stream/live/key", forever(1))
    assert not any(received)
