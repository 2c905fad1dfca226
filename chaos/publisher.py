"""The publisher: sends chunks in real time, over a connection that can be cut."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from chaos.card import SLICE
from chaos.network import Network

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@define(eq=False)
class Publisher:
    """Publishes *chunks* to the daemon at *address* (host:port), from *network*'s namespace if any."""

    address: str
    chunks: Sequence[bytes]
    network: Network | None = None
    sent: int = 0
    started: trio.Event = field(factory=trio.Event)
    _late: float = 0.0
    _stream: trio.SocketStream | None = None
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def run(self) -> None:
        """Send everything and close with 1000; return earlier when the connection ends, or is cut."""
        host, _, port = self.address.rpartition(":")
        if self.network is None:
            self._stream = await trio.open_tcp_stream(host, int(port))
        else:
            connected = await trio.to_thread.run_sync(self.network.connect, int(port))
            connected.setblocking(False)
            self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        with self._scope:
            async with self._stream, trio.open_nursery() as nursery:
                await self._publish(nursery, self._stream)
                nursery.cancel_scope.cancel()

    async def _publish(self, nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        try:
            websocket = await wrap_client_stream(nursery, stream, self.address, "/stream/live/cam-key")
            start = trio.current_time()
            self.started.set()
            for number, chunk in enumerate(self.chunks):
                await self._wait_turn(start + number * SLICE)
                await websocket.send_message(chunk)
                self.sent += 1
            with trio.move_on_after(5):
                await websocket.aclose()
        except (ConnectionClosed, HandshakeError, OSError):
            return

    async def _wait_turn(self, due: float) -> None:
        # It may become later while we wait.
        while trio.current_time() < (at := due + self._late):  # noqa: ASYNC110
            await trio.sleep_until(at)

    def fall_silent(self, seconds: float) -> None:
        """Send nothing for *seconds* more than usual, as a page whose canvas stands still."""
        self._late += seconds

    def cut(self) -> None:
        """Reset the connection (RST), and send nothing more."""
        if self._stream is not None:
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._stream.socket.close()
        self._scope.cancel()
