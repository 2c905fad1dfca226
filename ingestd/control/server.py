"""The control listener: Hypercorn's HTTP/1.1, on our listeners, with an end that no client can delay.

`hypercorn.trio.serve` shields each write from cancellation, so that one client that stops reading
would keep the daemon from ending. Here the connections are ours, and can be closed under it.

There is no HTTP/2: a proxy that passes ``Upgrade: h2c`` on would let its client speak past it, unseen.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sys
import termios
from functools import partial
from typing import Any

import hypercorn.config
import trio
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app
from quart_trio import QuartTrio

from ingestd.address import Address

IDLE = 5.0
"""Seconds for which a connection is kept on which nothing is asked."""

GRACE = 2.0
"""Seconds that responses under way get when the daemon stops."""

STALL = 15.0
"""A client that takes nothing for so many seconds, and again for so many, is cut off."""

_FULL_BODY = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, '
    b'"detail": "there are as many connections as control.max_connections allows; try again"}\n'
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)

LINGER = 2.0
"""Seconds for which what a client still sends is passed over, so that it comes to read its answer."""


async def serve(
    app: QuartTrio,
    bind: Address,
    ending: trio.Event,
    max_connections: int = 256,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* on *bind* until cancelled; reports its listeners once they listen.

    One connection more than *max_connections* is answered 503. Raises `OSError` when the address cannot be
    bound. When cancelled it accepts nothing any more, sets *ending* for responses that would go on for ever,
    lets those under way go on for `GRACE` seconds, and then closes every connection.
    """
    listeners = await trio.open_tcp_listeners(bind.port, host=bind.host)
    connections = _Connections(app, max_connections)
    async with trio.open_nursery() as nursery:
        handlers = await nursery.start(connections.host)
        try:
            await trio.serve_listeners(
                connections.handle, listeners, handler_nursery=handlers, task_status=task_status
            )
        finally:
            ending.set()
            connections.end()


class _Connections:
    def __init__(self, app: QuartTrio, at_most: int) -> None:
        config = hypercorn.config.Config()
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        config.include_server_header = False
        config.keep_alive_timeout = IDLE
        self._context = WorkerContext(None)
        wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
        self._server: Any = partial(_Server, wrapped, config, self._context, {})
        self._at_most = at_most
        self._refused = 0
        self._open: set[trio.SocketStream] = set()
        self._gone = trio.lowlevel.ParkingLot()
        self._ending = trio.Event()

    async def host(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """A nursery for `handle` that outlives the accepting: it ends some time after `end`."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await self._ending.wait()
                # Idle connections close now, the others when the response under way is out.
                await self._context.terminated.set()
                with trio.move_on_after(GRACE):
                    while self._open:
                        await self._gone.park()
                for stream in self._open:
                    stream.socket.close()
                handlers.cancel_scope.cancel()

    async def handle(self, stream: trio.SocketStream) -> None:
        """One connection, for all its requests."""
        if len(self._open) >= self._at_most:
            await self._refuse(stream)
            return
        self._open.add(stream)
        try:
            await self._server(_Patient(stream))
        finally:
            self._open.discard(stream)
            self._gone.unpark_all()

    async def _refuse(self, stream: trio.SocketStream) -> None:
        """Answer 503, having read: what is unread when *stream* is closed takes the answer with it."""
        self._refused += 1
        try:
            if self._refused <= self._at_most:
                with trio.move_on_after(LINGER), contextlib.suppress(trio.BrokenResourceError):
                    await stream.receive_some(2**16)
                    await stream.send_all(_FULL)
        finally:
            self._refused -= 1

    def end(self) -> None:
        """Have `host` end."""
        self._ending.set()


class _Server(TCPServer):
    """One connection. What follows a response is done whatever becomes of the application's task.

    That is cancelled the moment that the response is out (Quart takes Hypercorn's "disconnect" so), and would
    take the closing of the connection, and its idle timeout, with it.
    """

    async def run(self) -> None:
        socket = self.stream.socket
        try:
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as tasks:
                self._task_group = tasks
                self.protocol: Any = _Http11(
                    self.app, self.config, self.context, tasks, ConnectionState(self.state), False, client,
                    server, self.protocol_send,
                )  # fmt: skip
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # gone before it was looked at
        finally:
            await self._close()

    async def protocol_send(self, event: Any) -> None:
        with trio.CancelScope(shield=True):
            await super().protocol_send(event)


class _Http11(H11Protocol):
    async def _check_protocol(self, event: Any) -> None:
        """Pass over what asks for HTTP/2."""


class _Patient:
    """A stream whose reader may be slow but must not stand still: Hypercorn itself waits for ever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._reading = self._ended = False
        self._gone = trio.Event()

    async def receive_some(self, size: int) -> bytes | bytearray:
        """Receive; once we have ended, only the other's end."""
        self._reading = True
        try:
            data = await self._stream.receive_some(size)
            while data and self._ended:
                data = await self._stream.receive_some(size)
            return data
        finally:
            self._reading = False
            if self._ended:
                self._gone.set()

    async def send_eof(self) -> None:
        self._ended = True
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close; while somebody waits in `receive_some` after our end, not before the other has ended, too.

        A socket that is closed with something unread resets the connection, and the answer is lost.
        """
        if self._reading and self._ended:
            with trio.move_on_after(LINGER):
                await self._gone.wait()
        await self._stream.aclose()

    async def send_all(self, data: bytes) -> None:
        """Send *data*. Raises `trio.BrokenResourceError` when nothing of it is taken for `STALL` seconds."""
        rest = memoryview(data)
        before = None
        try:
            while rest:
                with trio.move_on_after(STALL) as scope:
                    # Cancelled, it has sent nothing.
                    rest = rest[await self.socket.send(rest) :]
                if not scope.cancelled_caught:
                    before = None
                elif (waiting := self._waiting()) == before:
                    raise trio.BrokenResourceError("the client takes nothing")
                else:
                    # The kernel takes more only when it has room for a good deal more.
                    before = waiting
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def _waiting(self) -> int:
        """Bytes that the client has not acknowledged."""
        answer = fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)
