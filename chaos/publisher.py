"""The publishers: they send chunks in real time, over connections that can be cut.

`Publisher` sends plain chunks, `ResumablePublisher` is the client of ``ingestd.v1``.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, HandshakeError, wrap_client_stream

from chaos.card import SLICE, Card, Recorder
from chaos.network import Network
from ingestd import client

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_RETRY = 0.25  # seconds between two attempts to connect; a page should wait longer
_FINAL = (1000, 4401, 4415)  # close codes after which none should; see docs/publishing.md
_ABNORMAL = 1006
_NOWHERE = struct.pack("=H14x", socket.AF_UNSPEC)


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
        return await _open(self.network, host, int(port))

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
            code = closed.reason.code if closed.reason else _ABNORMAL
            self.closed.append(code)
            return code in _FINAL
        except (HandshakeError, OSError):
            return False
        return True

    async def _wait_turn(self, due: float) -> None:
        # It may become later while we wait.
        while trio.current_time() < (at := due + self._late):  # noqa: ASYNC110
            await trio.sleep_until(at)

    @property
    def acknowledged(self) -> int:
        """Plain chunks are not acknowledged."""
        return 0

    def fall_silent(self, seconds: float) -> None:
        """Send nothing for *seconds* more than usual, as a page whose canvas stands still."""
        self._late += seconds

    def cut(self, away: float = 0.0) -> None:  # noqa: ARG002
        """Reset the connection (RST); *away* is for those that come back by themselves."""
        if self._stream is not None:
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._stream.socket.close()
        self._scope.cancel()


@define(eq=False)
class ResumablePublisher:
    """As `Publisher`, with the client of ``ingestd.v1``: one recorder throughout, whatever connections do.

    *buffer* is what the client keeps, at most, of what is not acknowledged. *connections* counts those that
    were said hello to, *closed* has the codes of close frames.
    """

    address: str
    card: Card
    network: Network | None = None
    buffer: client.Buffer = field(factory=client.Buffer)
    recorders: list[Recorder] = field(factory=list)
    connections: int = 0
    closed: list[int] = field(factory=list)
    started: trio.Event = field(factory=trio.Event)
    gone: trio.Event = field(factory=trio.Event)
    published: client.Published | None = None
    _late: float = 0.0
    _stream: trio.SocketStream | None = None
    _away_until: float = 0.0
    _client: client.Publisher = field(init=False)

    #: It always comes back.
    returns = True

    def __attrs_post_init__(self) -> None:
        self._client = client.Publisher(
            f"ws://{self.address}/stream/live", "cam-key", client="fault run", buffer=self.buffer,
            ping_interval=0.5, ping_timeout=0.75, on_event=self._hear, open_tcp=self._connect,
        )  # fmt: skip

    @property
    def acknowledged(self) -> int:
        """Chunks of which the client was told that they are in the journal."""
        return self._client.outbox.acknowledged.chunks

    @property
    def dropped(self) -> int:
        """Chunks that the client gave up, and said so."""
        return self._client.outbox.dropped.chunks

    async def run(self) -> None:
        """Send everything, and say that it was all. Raises `ConnectionFailed` if nobody is there at first."""
        recorder = self.card.recorder()
        self.recorders.append(recorder)
        async with aclosing(self._source(recorder)) as source:
            self.published = await self._client.run(source)
        self.gone.set()

    async def _source(self, recorder: Recorder) -> AsyncGenerator[bytes, None]:
        start = trio.current_time()
        for number, chunk in enumerate(recorder.chunks):
            while trio.current_time() < (at := start + number * SLICE + self._late):  # noqa: ASYNC110
                await trio.sleep_until(at)  # it may become later while we wait
            recorder.sent += 1
            yield chunk

    async def _connect(self, host: str, port: int) -> trio.SocketStream:
        if trio.current_time() < self._away_until:
            raise OSError("the network is away")
        self._stream = await _open(self.network, host, port)
        return self._stream

    def _hear(self, event: client.Event) -> None:
        match event:
            case client.Hello():
                self.connections += 1
                self.started.set()
            case client.Lost(code=code) if code != _ABNORMAL:
                self.closed.append(code)

    def fall_silent(self, seconds: float) -> None:
        """Send nothing for *seconds* more than usual, as a page whose canvas stands still."""
        self._late += seconds

    def cut(self, away: float = 0.0) -> None:
        """Reset the connection at both ends, and let none be made for so many seconds."""
        self._away_until = trio.current_time() + away
        if self._stream is not None:
            _reset(self._stream.socket.fileno())


async def _open(network: Network | None, host: str, port: int) -> trio.SocketStream:
    """A connection to *port*, from within *network* if there is one."""
    if network is None:
        return await trio.open_tcp_stream(host, port)
    # Given up, it may stay behind until it has its connection, or not.
    connected = await trio.to_thread.run_sync(network.connect, port, abandon_on_cancel=True)
    connected.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(connected))


def _reset(fd: int) -> None:
    """RST to the peer, and the same error to who reads here: the socket stays for its owner to close."""
    libc = ctypes.CDLL(None, use_errno=True)
    if fd >= 0 and libc.connect(fd, _NOWHERE, len(_NOWHERE)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
