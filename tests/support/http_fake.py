"""A small HTTP server for fakes, on a real socket of loopback: what misbehaves has to be ordered exactly.

It speaks HTTP/1.1 through h11 and can do what frameworks prevent: never answer, or hang up instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import h11
import trio
from attrs import frozen


@frozen(slots=True)
class Request:
    """*headers* have lower-case names; *path* is without the query."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@frozen(slots=True)
class Reply:
    """An answer; *hang_up* closes the connection without one."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    hang_up: bool = False


Handler = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """Serve *handler* for the time of the block; gives the base URL. Handlers are cancelled at its end."""

    async def connection(stream: trio.SocketStream) -> None:
        async with stream:
            await _converse(stream, handler)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, connection, listeners)
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def _converse(stream: trio.SocketStream, handler: Handler) -> None:
    conn = h11.Connection(h11.SERVER)
    while True:
        try:
            request = await _receive(stream, conn)
            if request is None:
                return
            reply = await handler(request)
            if reply.hang_up:
                return
            headers = [*reply.headers, ("content-length", str(len(reply.body)))]
            data = conn.send(h11.Response(status_code=reply.status, headers=headers)) or b""
            data += conn.send(h11.Data(data=reply.body)) or b""
            data += conn.send(h11.EndOfMessage()) or b""
            await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            return
        if conn.our_state is h11.MUST_CLOSE:
            return
        conn.start_next_cycle()


async def _receive(stream: trio.SocketStream, conn: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = conn.next_event()
        if event is h11.NEED_DATA:
            conn.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            path, _, query = head.target.decode().partition("?")
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), path, query, headers, body)
        else:
            return None
