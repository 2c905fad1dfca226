"""A plain publisher: chunks over one WebSocket until they end, or until the server wants no more."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Callable

import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.client.connection import CLOSE_TIMEOUT, Line, converse


@frozen(slots=True, kw_only=True)
class Closed:
    """How a plain publication ended, by *code* and *reason* (``docs/publishing.md``), and what was sent.

    *complete* says that all chunks were sent and the close was ours; else the server closed first, or
    the connection broke (1006). Sent is not accepted: the last chunks may have been on their way.
    """

    code: int
    reason: str
    complete: bool
    chunks: int
    bytes: int


async def publish_plain(
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
    sender = _Sender(chunks, on_sent)
    goodbye = await converse(url, sender.send, ssl_context=ssl_context)
    if sender.failure is not None:
        raise sender.failure  # out here, so that what *chunks* raises arrives as it was, not in a group
    return Closed(
        code=goodbye.code,
        reason=goodbye.reason,
        complete=sender.complete,
        chunks=sender.chunks,
        bytes=sender.bytes,
    )


class _Sender:
    def __init__(self, chunks: AsyncIterable[bytes], on_sent: Callable[[int], None] | None) -> None:
        self._chunks = chunks
        self._on_sent = on_sent
        self._sending = False
        self.chunks = self.bytes = 0
        self.complete = False
        self.failure: Exception | None = None

    async def send(self, connection: WebSocketConnection, _line: Line) -> None:
        """Send until one side is done, then close. What the source raises is in *failure*."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_closed, connection, nursery.cancel_scope)
                try:
                    await self._send(connection)
                except ConnectionClosed:
                    pass  # `publish_plain` reports with which code
                except Exception as error:
                    self.failure = error
                nursery.cancel_scope.cancel()
        finally:
            # After half a message a close frame would be taken for its rest.
            if not self._sending or connection.closed is not None:
                with trio.CancelScope(shield=True, relative_deadline=CLOSE_TIMEOUT):
                    await connection.aclose()

    async def _send(self, connection: WebSocketConnection) -> None:
        async for chunk in self._chunks:
            self._sending = True
            await connection.send_message(chunk)
            self._sending = False
            self.chunks += 1
            self.bytes += len(chunk)
            if self._on_sent is not None:
                self._on_sent(len(chunk))
        self.complete = connection.closed is None


async def _wait_closed(connection: WebSocketConnection, scope: trio.CancelScope) -> None:
    """Cancel *scope* once the server has closed; what it says before is for the subprotocol's clients."""
    try:
        while True:
            await connection.get_message()
    except ConnectionClosed:
        scope.cancel()
