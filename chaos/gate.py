"""A gate in front of a server: a TCP relay that can be shut, and on whose way next to nothing fits.

On loopback a connection takes some megabytes before it blocks, most of them in the sender's kernel, which
counts in segments of 64 KiB: at a test card's bit rate that is a minute. A small receive buffer *and* small
segments, both to be set before anybody connects, leave some ten kilobytes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio
from attrs import define, field

_RECEIVE_BUFFER = 4096
_SEGMENT = 1460
_READ = 4096


@define(eq=False)
class Gate:
    """Relays what comes to *port* of loopback to port *target*, while it is open and `run` runs."""

    target: int
    port: int
    _listening: socket.socket
    _opened: trio.Event = field(factory=trio.Event)

    async def run(self) -> None:
        """Relay connections until cancelled."""
        self.open()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listening))
        await trio.serve_listeners(self._relay, [listener])

    def open(self) -> None:
        """Let everything pass that waits."""
        self._opened.set()

    def shut(self) -> None:
        """Take nothing any more, with every connection still there."""
        self._opened = trio.Event()

    async def _relay(self, client: trio.SocketStream) -> None:
        try:
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self.target) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._pump, client, server)
                nursery.start_soon(self._pump, server, client)
        except OSError:
            return

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(_READ):
                await self._opened.wait()
                await sink.send_all(data)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await sink.send_eof()


@contextmanager
def gate(target: int) -> Iterator[Gate]:
    """A gate before port *target*, listening from now on."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield Gate(target, listening.getsockname()[1], listening)
