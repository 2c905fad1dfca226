"""A publisher: chunks over a WebSocket until they end, or until the server says why it wants no more."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import frozen
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    ConnectionTimeout,
    HandshakeError,
    WebSocketConnection,
    open_websocket_url,
)

from ingestd.errors import IngestdError

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
_RECEIVE_BUFFER = 16 * 2**10

# Its debug records quote the URL, which holds the stream key.
logging.getLogger("trio-websocket").setLevel(logging.WARNING)


class ConnectionFailed(IngestdError):
    """There is no WebSocket at the other end: nothing listens, or *status* (HTTP) refused the upgrade."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@frozen(slots=True, kw_only=True)
class Closed:
    """How a publication ended: the close *code* and *reason* (``docs/publishing.md``), and what was sent.

    *complete* says that all chunks were sent and the close was ours; else the server closed first, or
    the connection broke (1006). Sent is not accepted: the last chunks may have been on their way.
    """

    code: int
    reason: str
    complete: bool
    chunks: int
    bytes: int


async def publish(
    url: str,
    chunks: AsyncIterable[bytes],
    *,
    ssl_context: ssl.SSLContext | None = None,
    on_sent: Callable[[int], None] | None = None,
) -> Closed:
    """Push each of *chunks* to *url* (``ws://HOST:PORT/stream/live/KEY``, or ``wss:``), then close with 1000.

    At most one chunk is held: *chunks* is asked for the next when the socket has taken the last, so a
    server that holds back slows its producer. A server that closes ends it at once, whatever *chunks*
    does; *on_sent* gets the size of each chunk sent. Closing *chunks* is the caller's business.

    Raises `ConnectionFailed`, whose text holds no key, and ValueError for a URL that is none.
    Cancelled, it still closes with 1000, within `CLOSE_TIMEOUT`, unless half a chunk is sent.
    """
    sender = _Sender(on_sent)
    async with _connected(url, ssl_context) as connection:
        try:
            await sender.send(connection, chunks)
        finally:
            # After half a message a close frame would be taken for its rest: then only the socket is closed.
            timeout = 0.0 if sender.sending and connection.closed is None else CLOSE_TIMEOUT
            with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout):
                await connection.aclose()
    closed = connection.closed
    return Closed(
        code=closed.code if closed else 1006,
        reason=(closed.reason or "") if closed else "",
        complete=sender.complete,
        chunks=sender.chunks,
        bytes=sender.bytes,
    )


class _Sender:
    def __init__(self, on_sent: Callable[[int], None] | None) -> None:
        self._on_sent = on_sent
        self.chunks = self.bytes = 0
        self.complete = self.sending = False

    async def send(self, connection: WebSocketConnection, chunks: AsyncIterable[bytes]) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_closed, connection, nursery.cancel_scope)
            try:
                await self._send(connection, chunks)
            except ConnectionClosed:
                pass  # `publish` reports with which code
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure  # out here, so that what *chunks* raises arrives as it was, not in a group

    async def _send(self, connection: WebSocketConnection, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            self.sending = True
            await connection.send_message(chunk)
            self.sending = False
            self.chunks += 1
            self.bytes += len(chunk)
            if self._on_sent is not None:
                self._on_sent(len(chunk))
        self.complete = connection.closed is None


async def _wait_closed(connection: WebSocketConnection, scope: trio.CancelScope) -> None:
    """Cancel *scope* once the server has closed; what it says before is for later versions."""
    try:
        while True:
            await connection.get_message()
    except ConnectionClosed:
        scope.cancel()


@asynccontextmanager
async def _connected(url: str, ssl_context: ssl.SSLContext | None) -> AsyncIterator[WebSocketConnection]:
    """The connection; what trio-websocket raises before there is one becomes `ConnectionFailed`."""
    connection = None
    try:
        async with open_websocket_url(
            url, ssl_context, message_queue_size=1, receive_buffer_size=_RECEIVE_BUFFER,
            connect_timeout=CONNECT_TIMEOUT, disconnect_timeout=CLOSE_TIMEOUT,
        ) as connection:  # fmt: skip
            yield connection
    except ConnectionRejected as rejected:
        said = (rejected.body or b"").decode("utf-8", "replace").strip()
        text = f"the server refused the upgrade with HTTP status {rejected.status_code}"
        raise ConnectionFailed(f"{text}: {said[:200]}" if said else text, rejected.status_code) from None
    except ConnectionTimeout:
        raise ConnectionFailed(f"no answer within {CONNECT_TIMEOUT:g} s") from None
    except (HandshakeError, trio.BrokenResourceError) as error:
        if connection is not None:
            raise
        raise ConnectionFailed(_why(error)) from None


def _why(error: BaseException) -> str:
    """The innermost cause in words: each layer, and each address of a host, adds one of its own."""
    while inner := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__:
        error = inner
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)  # Trio's own text repeats the address
    text = getattr(error, "strerror", None) or str(error)
    return text or f"no WebSocket handshake ({type(error).__name__})"
