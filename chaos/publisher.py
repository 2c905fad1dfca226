"""The publisher: sends chunks in real time, over a connection that can be cut."""

from __future__ import annotations

import socket
import struct

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from chaos.card import SLICE, Card, Recorder
from chaos.network import Network

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_RETRY = 0.25  # seconds between two attempts to connect; a page should wait longer
_FINAL = (1000, 4401, 4415)  # close codes after which none should; see docs/publishing.md


@define(eq=False)
class Publisher:
    """Publishes *card* to the daemon at *address* (host:port), from *network*'s namespace if any.

    One that *returns* begins a new recorder on a new connection when it has lost the last one.
    *recorders* are those that were connected, over so many *connections*; *closed* are the codes with which
    the other side closed them. *gone* is set when there will be no more.
    """

    address: str
    card: Card
    network: Network | None = None
    returns: bool = False
    recorders: list[Recorder] = field(factory=list)
    connections: int = 0
    closed: list[int] = field(factory=list)
    started: trio.Event = field(factory=trio.Event)
    gone: trio.Event = field(factory=trio.Event)
    _late: float = 0.0
    _stream: trio.SocketStream | None = None
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def run(self) -> None:
        """Send everything and close with 1000. A connection lost is the end, unless the publisher *returns*.

        Raises OSError if there is nobody to connect to in the first place.
        """
        recorder = self.card.recorder()
        while not await self._connection(recorder) and self.returns:
            await trio.sleep(_RETRY)
            if recorder.sent:
                recorder = await trio.to_thread.run_sync(self.card.recorder, recorder.reached)
        self.gone.set()

    async def _connection(self, recorder: Recorder) -> bool:
        """Send *recorder*'s chunks over a connection of their own; False if it should be tried again."""
        try:
            self._stream = await self._connect()
        except OSError:
            if not self.connections:
                raise
            return False
        finished = False
        with trio.CancelScope() as self._scope:
            async with self._stream, trio.open_nursery() as nursery:
                finished = await self._publish(nursery, self._stream, recorder)
                nursery.cancel_scope.cancel()
        return finished

    async def _connect(self) -> trio.SocketStream:
        host, _, port = self.address.rpartition(":")
        if self.network is None:
            return await trio.open_tcp_stream(host, int(port))
        connected = await trio.to_thread.run_sync(self.network.connect, int(port))
        connected.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(connected))

    async def _publish(self, nursery: trio.Nursery, stream: trio.SocketStream, recorder: Recorder) -> bool:
        try:
            websocket = await wrap_client_stream(nursery, stream, self.address, "/stream/live/cam-key")
            start, self._late = trio.current_time(), 0.0
            self.connections += 1
            if recorder not in self.recorders:
                self.recorders.append(recorder)
            self.started.set()
            for number, chunk in enumerate(recorder.chunks):
                await self._wait_turn(start + number * SLICE)
                recorder.sent += 1  # if only in part
                await websocket.send_message(chunk)
            with trio.move_on_after(5):
                await websocket.aclose()
        except ConnectionClosed as closed:
            code = closed.reason.code if closed.reason else 1006
            self.closed.append(code)
            return code in _FINAL
        except (HandshakeError, OSError):
            return False
        return True

    async def _wait_turn(self, due: float) -> None:
        # It may become later while we wait.
        while trio.current_time() < (at := due + self._late):  # noqa: ASYNC110
            await trio.sleep_until(at)

    def fall_silent(self, seconds: float) -> None:
        """Send nothing for *seconds* more than usual, as a page whose canvas stands still."""
        self._late += seconds

    def cut(self) -> None:
        """Reset the connection (RST)."""
        if self._stream is not None:
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._stream.socket.close()
        self._scope.cancel()
