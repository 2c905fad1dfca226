"""One WebSocket to a daemon, from the TCP connection to the close code, with failures in words."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

import trio
from attrs import frozen
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from ingestd.errors import IngestdError, leaves

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
ABNORMAL = 1006
"""The code of a connection that ended without a close frame (RFC 6455, section 7.1.5)."""
MAX_TEXT = 64 * 2**10
"""The longest message that a server may send, in characters."""

_RECEIVE_BUFFER = 16 * 2**10
_TOO_BIG = 1009

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
OpenTcp: TypeAlias = Callable[[str, int], Awaitable[trio.SocketStream]]
"""Connects to a host and a port, or raises OSError."""

# Its debug records quote the URL, which holds the stream key.
logging.getLogger("trio-websocket").setLevel(logging.WARNING)


class ConnectionFailed(IngestdError):
    """There is no WebSocket at the other end: nothing listens, or *status* (HTTP) refused the upgrade."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class NotSpoken(ConnectionFailed):
    """There is a WebSocket, but the server does not know the subprotocol."""


class ServerDefect(IngestdError):
    """The server broke the protocol; the text says how, and never repeats what it sent."""


@frozen(slots=True)
class Goodbye:
    """How a connection ended: its close *code* (`ABNORMAL`: it broke) and the reason."""

    code: int
    reason: str


class Line(trio.abc.Stream):
    """The *stream* under a WebSocket; knows when the peer was heard last, and whether it is *over*."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.heard_at = trio.current_time()
        self.over = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.over.set()
            raise
        self.heard_at = trio.current_time()
        if not data:
            self.over.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


async def converse(
    url: str,
    talk: Callable[[WebSocketConnection, Line], Awaitable[None]],
    *,
    subprotocol: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_tcp: OpenTcp = trio.open_tcp_stream,
) -> Goodbye:
    """Connect to *url*, let *talk* use the connection, and return how it was closed.

    On return the connection is gone, whether *talk* closed it or not. Raises `ConnectionFailed`, whose
    text holds no key, `ServerDefect` for a message that is too long, ValueError for a URL that is none,
    and in a group what *talk* raises. Cancelled, it drops the connection at once.
    """
    stream = await _open_stream(url, ssl_context, open_tcp)
    line = Line(stream)
    connection = refusal = None
    try:
        async with trio.open_nursery() as nursery:
            connection = await _handshake(nursery, line, url, subprotocol)
            if connection is not None and connection.subprotocol == subprotocol:
                await talk(connection, line)
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:
        refusal = leaves(group)[0]
    finally:
        await trio.aclose_forcefully(stream)
    if isinstance(refusal, ConnectionRejected):
        raise _refused(refusal)
    if connection is None:
        why = "it was closed" if line.over.is_set() else f"not within {CONNECT_TIMEOUT:g} s"
        raise ConnectionFailed(f"no WebSocket handshake: {why}")
    if connection.subprotocol != subprotocol:
        raise NotSpoken(f"the server does not speak {subprotocol}")
    closed = connection.closed
    if closed is None or closed.code == ABNORMAL:
        return Goodbye(ABNORMAL, "")
    if closed.code == _TOO_BIG and (closed.reason or "").startswith("Exceeded maximum message size"):
        raise ServerDefect(f"a message of more than {MAX_TEXT} characters")  # trio-websocket's own words
    return Goodbye(int(closed.code), closed.reason or "")


def check_url(url: str) -> SplitResult:
    """The parts of *url*. Raises ValueError, without its text, if it is none of a WebSocket."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("expected a URL that begins with ws:// or wss:// and a host")
    return parts


async def _open_stream(url: str, ssl_context: ssl.SSLContext | None, open_tcp: OpenTcp) -> Stream:
    parts = check_url(url)
    secure = parts.scheme == "wss"
    host = parts.hostname or ""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            plain = await open_tcp(host, parts.port or (443 if secure else 80))
            if not secure:
                return plain
            context = ssl_context or ssl.create_default_context()
            stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=True)
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


async def _handshake(
    nursery: trio.Nursery, line: Line, url: str, subprotocol: str | None
) -> WebSocketConnection | None:
    """The connection over *line*, or None if the server closes first, or takes too long.

    A refusal is raised in *nursery*. The stream is ours to close: trio-websocket leaves it open where
    the server closes first, and waits for an answer that cannot come any more.
    """
    parts = urlsplit(url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = None

    async def give_up() -> None:
        await line.over.wait()
        racing.cancel_scope.cancel()

    async with trio.open_nursery() as racing:
        racing.cancel_scope.deadline = trio.current_time() + CONNECT_TIMEOUT
        racing.start_soon(give_up)
        connection = await wrap_client_stream(
            nursery,
            line,  # type: ignore[arg-type]  # any stream will do
            parts.netloc.rpartition("@")[2],
            resource,
            subprotocols=[subprotocol] if subprotocol else None,
            message_queue_size=1,
            max_message_size=MAX_TEXT,
            receive_buffer_size=_RECEIVE_BUFFER,
        )
        racing.cancel_scope.cancel()
    return connection


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
