"""A publisher: chunks over a WebSocket until they end, or until the server says why it wants no more."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from ingestd.errors import IngestdError, leaves

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
_RECEIVE_BUFFER = 16 * 2**10

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

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
    stream = await _open_stream(url, ssl_context)
    connection = refusal = None
    try:
        async with trio.open_nursery() as nursery:
            connection = await _handshake(nursery, stream, url)
            if connection is not None:
                await sender.send(connection, chunks)
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:
        refusal = leaves(group)[0]
    finally:
        await trio.aclose_forcefully(stream)
    if isinstance(refusal, ConnectionRejected):
        raise _refused(refusal)
    if connection is None:
        raise ConnectionFailed(f"no WebSocket handshake within {CONNECT_TIMEOUT:g} s")
    if sender.failure is not None:
        raise sender.failure  # out here, so that what *chunks* raises arrives as it was, not in a group
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
        self._sending = False
        self.chunks = self.bytes = 0
        self.complete = False
        self.failure: Exception | None = None

    async def send(self, connection: WebSocketConnection, chunks: AsyncIterable[bytes]) -> None:
        """Send until one side is done, then close. What *chunks* raises is in *failure*."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_closed, connection, nursery.cancel_scope)
                try:
                    await self._send(connection, chunks)
                except ConnectionClosed:
                    pass  # `publish` reports with which code
                except Exception as error:
                    self.failure = error
                nursery.cancel_scope.cancel()
        finally:
            # After half a message a close frame would be taken for its rest.
            if not self._sending or connection.closed is not None:
                with trio.CancelScope(shield=True, relative_deadline=CLOSE_TIMEOUT):
                    await connection.aclose()

    async def _send(self, connection: WebSocketConnection, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            self._sending = True
            await connection.send_message(chunk)
            self._sending = False
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


async def _open_stream(url: str, ssl_context: ssl.SSLContext | None) -> Stream:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("expected a URL that begins with ws:// or wss:// and a host")
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            if parts.scheme == "ws":
                return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
            stream = await trio.open_ssl_over_tcp_stream(
                parts.hostname, parts.port or 443, ssl_context=ssl_context, https_compatible=True
            )
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream
    except trio.TooSlowError:
        raise ConnectionFailed(f"no connection within {CONNECT_TIMEOUT:g} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise ConnectionFailed(_why(error)) from None


async def _handshake(nursery: trio.Nursery, stream: Stream, url: str) -> WebSocketConnection | None:
    """The connection over *stream*, or None if the server takes too long.

    A refusal is raised in *nursery*. The stream is ours to close: trio-websocket leaves it open where
    the server closes first.
    """
    parts = urlsplit(url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with trio.move_on_after(CONNECT_TIMEOUT):
        return await wrap_client_stream(
            nursery, stream, parts.netloc.rpartition("@")[2], resource,
            message_queue_size=1, receive_buffer_size=_RECEIVE_BUFFER,
        )  # fmt: skip
    return None


def _refused(refusal: ConnectionRejected) -> ConnectionFailed:
    said = (refusal.body or b"").decode("utf-8", "replace").strip()
    text = f"the server refused the upgrade with HTTP status {refusal.status_code}"
    return ConnectionFailed(f"{text}: {said[:200]}" if said else text, refusal.status_code)


def _why(error: BaseException) -> str:
    """The innermost cause in words: each layer, and each address of a host, adds one of its own."""
    while inner := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)  # Trio's own text repeats the address
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
