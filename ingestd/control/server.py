"""The control listener: Hypercorn's HTTP, on our listeners, with an end that no client can delay.

`hypercorn.trio.serve` shields each write from cancellation, so that one client that stops reading
would keep the daemon from ending. Here the connections are ours, and can be closed under it.
"""

from __future__ import annotations

import fcntl
import logging
import sys
import termios
from functools import partial
from typing import Any

import hypercorn.config
import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from ingestd.address import Address

GRACE = 2.0
"""Seconds that responses under way get when the daemon stops."""

STALL = 15.0
"""A client that takes nothing for so many seconds, and again for so many, is cut off."""


async def serve(
    app: QuartTrio,
    bind: Address,
    ending: trio.Event,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* on *bind* until cancelled; reports its listeners once they listen.

    Raises `OSError` when the address cannot be bound. When cancelled it accepts nothing any more, sets
    *ending* for responses that would go on for ever, lets those under way go on for `GRACE` seconds, and
    then closes every connection.
    """
    listeners = await trio.open_tcp_listeners(bind.port, host=bind.host)
    connections = _Connections(app)
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
    def __init__(self, app: QuartTrio) -> None:
        config = hypercorn.config.Config()
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        config.include_server_header = False
        self._context = WorkerContext(None)
        wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
        self._server: Any = partial(TCPServer, wrapped, config, self._context, {})
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
        self._open.add(stream)
        try:
            await self._server(_Patient(stream))
        finally:
            self._open.discard(stream)
            self._gone.unpark_all()

    def end(self) -> None:
        """Have `host` end."""
        self._ending.set()


class _Patient:
    """A stream whose reader may be slow but must not stand still: Hypercorn itself waits for ever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

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
