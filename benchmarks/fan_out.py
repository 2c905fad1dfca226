"""CPU time per viewer and message: the relay, beside a task a viewer that calls ``send_message``.

    python -m benchmarks.fan_out --viewers 200 --size 31000

Both serve the same number of viewers on loopback, which another process reads dry, with the same messages,
turn by turn. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import trio
import trio_websocket
from attrs import frozen

from ingestd.config import Viewers
from ingestd.live.relay import Relay
from ingestd.live.ring import Init, Message
from ingestd.live.streams import Streams
from ingestd.live.viewer import Framed, Viewer
from ingestd.server_frames import BINARY, frame_head
from ingestd.sources.upgrade import WatchRequest, read_upgrade
from ingestd.sources.watching import accepted
from ingestd.sources.wire import bound_unsent

REQUEST = (
    b"GET /stream/watch/cam HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

#: Gives one message of so many bytes to everybody.
Publish = Callable[[bytes], Awaitable[None]]


@frozen
class Figures:
    """Microseconds of CPU for one message to one viewer; how many had a task of their own at the worst."""

    cpu: float
    busy: int = 0


def drain(port: int, viewers: int) -> None:
    """Another process: connect, ask, and read for ever."""
    selector = selectors.DefaultSelector()
    for _ in range(viewers):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(REQUEST)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    room = bytearray(2**20)
    while selector.get_map():
        for key, _ in selector.select():
            if not cast(socket.socket, key.fileobj).recv_into(room):
                selector.unregister(key.fileobj)


@asynccontextmanager
async def watched(
    viewers: int, handle: Callable[[trio.SocketStream], Awaitable[None]], ready: Callable[[], int]
) -> AsyncIterator[None]:
    """So many viewers, each served by *handle*, of whom *ready* have come."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, handle, [listener]))
        argv = [sys.executable, "-m", "benchmarks.fan_out", "--drain", str(listener.socket.getsockname()[1])]
        child = subprocess.Popen([*argv, "--viewers", str(viewers)])  # noqa: ASYNC220  at once
        try:
            while ready() < viewers:  # noqa: ASYNC110  a benchmark has time
                await trio.sleep(0.01)
            yield
        finally:
            child.kill()
            child.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def relay(viewers: int) -> AsyncIterator[tuple[Publish, Callable[[], int]]]:
    """What ingestd does."""
    made = Relay.of("cam", cast(Streams, None), Viewers())
    init = Init("video/webm", b"", "S", 0.0)

    async def handle(stream: trio.SocketStream) -> None:
        asked = await read_upgrade(stream)
        assert isinstance(asked, WatchRequest)
        assert asked.nonce is not None
        await stream.send_all(accepted(asked.nonce, None))
        bound_unsent(stream, Viewers().send_buffer)
        async with trio.open_nursery() as nursery:
            viewer = Viewer(stream.socket, nursery, Framed())
            viewer.attach(made.ring)
            made.viewers.add(viewer)
            await stream.receive_some(1)

    async def publish(data: bytes) -> None:
        head = frame_head(BINARY, len(data))
        made.publish(Message(head + data, len(head), trio.current_time(), init, True, 0, 1, 0))

    async with watched(viewers, handle, lambda: len(made.viewers)):
        yield publish, lambda: sum(viewer.busy for viewer in made.viewers)


@asynccontextmanager
async def tasks(viewers: int) -> AsyncIterator[tuple[Publish, Callable[[], int]]]:
    """The usual way: each viewer has a task and a channel."""
    channels: set[trio.MemorySendChannel[bytes]] = set()

    async def handle(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            socket = await request.accept()
            send, receive = trio.open_memory_channel[bytes](64)
            channels.add(send)
            async for message in receive:
                await socket.send_message(message)

    async def publish(data: bytes) -> None:
        for channel in channels:
            await channel.send(data)

    async with watched(viewers, handle, lambda: len(channels)):
        yield publish, lambda: 0


async def measured(
    way: Callable[[int], object], viewers: int, size: int, messages: int, every: float
) -> Figures:
    """Send *messages* messages, one *every* so many seconds."""
    data, worst = bytes(size), 0
    async with way(viewers) as (publish, busy):  # type: ignore[attr-defined]
        await publish(data)
        await trio.sleep(0.5)
        began = time.process_time()
        for _ in range(messages):
            await publish(data)
            worst = max(worst, busy())
            await trio.sleep(every)
        used = time.process_time() - began
    return Figures(used / messages / viewers * 1e6, worst)


async def compare(viewers: int, size: int, messages: int, every: float, rounds: int) -> None:
    """Both ways, turn by turn, and what one costs beside the other."""
    print(f"{viewers} viewers, {size:,} bytes a message, {messages} messages a round")
    ratios, found = [], []
    for number in range(1, rounds + 1):
        theirs = await measured(tasks, viewers, size, messages, every)
        ours = await measured(relay, viewers, size, messages, every)
        ratios.append(theirs.cpu / ours.cpu)
        found.append(ours.cpu)
        print(
            f"round {number}: a task a viewer {theirs.cpu:.1f} µs, relay {ours.cpu:.1f} µs "
            f"(at most {ours.busy} with a task), ratio {ratios[-1]:.2f}"
        )
    print(f"median: relay {statistics.median(found):.1f} µs, ratio {statistics.median(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--size", type=int, default=31_000)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two messages")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drain", type=int, metavar="PORT", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.drain:
        drain(asked.drain, asked.viewers)
    else:
        trio.run(compare, asked.viewers, asked.size, asked.messages, asked.every, asked.rounds)


if __name__ == "__main__":
    main()
