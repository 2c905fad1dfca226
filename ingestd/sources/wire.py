"""A publisher's TCP stream as trio-websocket sees it: observed on the way in, closed by us alone."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import trio

from ingestd.live.publication import Closing
from ingestd.server_frames import close_frame
from ingestd.sources.framing import FrameWatch

_DRAIN = 64 * 2**10


class Wire(trio.abc.Stream):
    """Stands between trio-websocket and *stream*; what *request* holds is received first.

    trio-websocket closes the TCP connection as soon as it has parsed a fault or the peer's close
    frame. Here that only ends its own use of the stream. `finish` then sends the close frame that
    is still owed (trio-websocket sends none for a protocol error), lets the peer read it, and closes.
    *farewell* gives the frames that go before such a close frame.
    """

    def __init__(self, stream: trio.SocketStream, watch: FrameWatch, request: bytes) -> None:
        self._stream = stream
        self._request = request
        self._released = False
        self._sending = False  # stays true when a send was cut short: no frame may follow
        self.watch = watch
        self.received_at = trio.current_time()
        self.received = 0
        self.close_sent = False
        self.farewell: Callable[[Closing], bytes] | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As trio's; a violation that the watch saw ends the stream behind the messages before it."""
        if self._released:
            raise trio.ClosedResourceError
        if self._request:
            await trio.lowlevel.checkpoint()
            request, self._request = self._request, b""
            return request
        if self.watch.violation is None:
            data = await self._receive(max_bytes)
            clean = self.watch.feed(data, self.received_at)
            if clean or not data:
                return data[:clean]
        raise trio.ClosedResourceError

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self.received_at = trio.current_time()
        self.received += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._released:
            raise trio.ClosedResourceError
        await self._send(data)

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        # A close frame comes in a call of its own: so the first octet tells it, RFC 6455 §5.5.1.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._sending = True  # from here on cancelled only while the peer does not read
        await self._stream.send_all(data)
        self._sending = False
        self.close_sent = self.close_sent or data[:1] == b"\x88"

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Take the stream from trio-websocket; the connection itself ends in `finish`."""
        self._released = True
        await trio.lowlevel.checkpoint()

    async def finish(self, closing: Closing | None, timeout: float) -> None:  # noqa: ASYNC109  a bound, kept on cancellation
        """Close by RFC 6455 §7.1: our close frame if not yet sent, the peer's, then TCP.

        What the peer still sends meanwhile is read and dropped: closing a socket with unread bytes
        resets it, and a reset can overtake the close frame with the code. None says that there is
        nothing left to say (the peer closed, or is gone). After *timeout* seconds
        the connection is reset. To be called when no other task uses the stream any more. Cannot be
        cancelled, so that a daemon which stops says 1001: the bound is *timeout*.
        """
        scope = trio.CancelScope(shield=True, relative_deadline=timeout)
        with scope, suppress(trio.BrokenResourceError):  # broken: the peer is gone, nothing to wait for
            await self._close_handshake(closing)
        if scope.cancelled_caught or self._sending:
            reset_on_close(self._stream)
        await trio.aclose_forcefully(self._stream)

    async def _close_handshake(self, closing: Closing | None) -> None:
        if self._sending or (closing is None and not self.close_sent):
            return
        if closing is not None and not self.close_sent:
            if self.farewell is not None:
                await self._send(self.farewell(closing))
            await self._send(close_frame(closing.code, closing.reason))
        while not self.watch.close_seen:
            data = await self._receive(_DRAIN)
            if not data:
                return
            self.watch.feed(data, self.received_at)


def bound_unsent(stream: trio.SocketStream, size: int) -> None:
    """Let the kernel take no more than *size* bytes that it cannot send yet, where it knows how.

    What lies there is late, cannot be left out any more, and is unknown to us.
    """
    with suppress(AttributeError, OSError):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)


def reset_on_close(stream: trio.SocketStream) -> None:
    """Let the next close abort the connection, so that the kernel keeps nothing for a dead peer."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
