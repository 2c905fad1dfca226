"""A TCP proxy between a client and a server, which cuts, freezes and forgets as a test tells it to."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from attrs import define, field

_PIECE = 16 * 2**10
_RESET = struct.pack("ii", 1, 0)


@define(eq=False)
class Proxy:
    """Forwards each connection to 127.0.0.1:*target*, which may change; listens on *port*.

    *up* counts the bytes that went to the server, over all connections.
    """

    target: int
    port: int = 0
    up: int = 0
    connections: int = 0
    refusing: bool = False
    _cut_at: float = float("inf")
    _flowing: trio.Event = field(factory=trio.Event)
    _open: set[tuple[trio.SocketStream, trio.SocketStream]] = field(factory=set)
    _stranded: set[trio.SocketStream] = field(factory=set)

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        for pair in list(self._open):
            for stream in pair:
                with suppress(OSError):
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                stream.socket.close()
        self._open.clear()

    def cut_after(self, count: int) -> None:
        """Reset the connections once *count* more bytes have gone to the server."""
        self._cut_at = self.up + count

    def freeze(self) -> None:
        """Forward nothing any more, either way, of any connection, and say so to nobody."""
        self._flowing = trio.Event()

    def thaw(self) -> None:
        """Forward again what comes from now on; what was held is still there."""
        self._flowing.set()

    def strand(self) -> None:
        """Forward nothing more of the connections that there are, not even their end; new ones are well."""
        self._stranded.update(stream for pair in self._open for stream in pair)

    async def _handle(self, client: trio.SocketStream) -> None:
        self.connections += 1
        if self.refusing:
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            return
        pair = (client, server)
        self._open.add(pair)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward, client, server, True, nursery.cancel_scope)
            nursery.start_soon(self._forward, server, client, False, nursery.cancel_scope)
        self._open.discard(pair)

    async def _forward(
        self, source: trio.SocketStream, sink: trio.SocketStream, up: bool, scope: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                data = await source.receive_some(_PIECE)
                await self._flowing.wait()
                if source in self._stranded:
                    await trio.sleep_forever()
                if up and self.up + len(data) >= self._cut_at:
                    kept = round(self._cut_at) - self.up
                    self._cut_at = float("inf")
                    self.up += kept
                    await sink.send_all(data[:kept])
                    await trio.sleep(0.02)  # so that the server has read it
                    self.cut()
                    break
                if not data:
                    await sink.send_eof()
                    return
                self.up += up * len(data)
                await sink.send_all(data)
        scope.cancel()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy that listens for the time of the block; its connections are cut at the end."""
    made = Proxy(target)
    made.thaw()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, made._handle, 0, host="127.0.0.1"))
        made.port = listener.socket.getsockname()[1]
        yield made
        nursery.cancel_scope.cancel()
