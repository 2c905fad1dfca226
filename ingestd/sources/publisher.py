"""One admitted publisher: its messages into the session's channel, until one side ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import structlog
import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.config import Ingest
from ingestd.live.publication import Chunk, Closing, Publication
from ingestd.sources.heartbeat import Vitals, ping_forever, wait_fault
from ingestd.sources.wire import Wire

log = structlog.get_logger(__name__)

_SESSION_GRACE = 1.0  # between a session that drops its channel and its saying why
_PROTOCOL_FAULTS = (1002, 1007)  # what wsproto answers malformed frames with


@frozen(slots=True)
class Ending:
    """How a publisher's connection ended: *by* whom, with which close code and reason."""

    by: Literal["publisher", "network", "ingestd"]
    code: int
    reason: str

    @property
    def owed(self) -> Closing | None:
        """What the publisher is still to be told."""
        return Closing(self.code, self.reason) if self.by == "ingestd" else None


STOPPED = Ending("ingestd", 1001, "the daemon stops")


class Publisher:
    """Runs one publication over *connection*; *wire* is the stream under it."""

    def __init__(
        self, config: Ingest, connection: WebSocketConnection, wire: Wire, publication: Publication
    ) -> None:
        self._config = config
        self._connection = connection
        self._wire = wire
        self._publication = publication
        self._vitals = Vitals(config, wire)
        self._forwarded = 0
        self._empty = 0

    async def run(self, without_secrets: Callable[[str], str]) -> Ending:
        """Receive until the publisher goes, fails a check, or the session asks for its end.

        Whatever was complete when the publisher went is in the channel before it is closed. Cancelled,
        it closes the channel and logs like any other end. *without_secrets* cleans text of the peer's.
        """
        publication, ending = self._publication, STOPPED
        log.info("publisher_connected", stream=publication.stream, remote=publication.remote)
        try:
            async with publication.chunks:
                ending = await self._first_ending()
        finally:
            log.info(
                "publisher_gone",
                stream=publication.stream,
                remote=publication.remote,
                by=ending.by,
                code=ending.code,
                reason=without_secrets(ending.reason),
                chunks=self._forwarded,
                empty=self._empty,
                bytes=self._wire.received,
            )
        return ending

    async def _first_ending(self) -> Ending:
        endings: list[Ending] = []

        async def race(wait: Callable[[], Awaitable[Ending]]) -> None:
            endings.append(await wait())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(race, self._pump)
            nursery.start_soon(race, partial(_ours, self._publication.wait_closing))
            nursery.start_soon(race, partial(_ours, partial(wait_fault, self._vitals)))
            nursery.start_soon(ping_forever, self._connection, self._vitals, self._config.ping_interval)
        return endings[0]

    async def _pump(self) -> Ending:
        chunks = self._publication.chunks
        try:
            while True:
                message = await self._connection.get_message()
                if not isinstance(message, bytes):
                    raise TypeError("a text message passed the frame watch")
                if not message:
                    self._empty += 1
                    continue
                chunk = Chunk(message)
                try:
                    chunks.send_nowait(chunk)
                except trio.WouldBlock:
                    with self._vitals.holding_back():
                        await chunks.send(chunk)
                self._forwarded += 1
        except ConnectionClosed:
            return self._why_closed()
        except trio.BrokenResourceError:
            # The session dropped its end; what it says itself in `close` is the better cause.
            await trio.sleep(_SESSION_GRACE)
            return Ending("ingestd", 4500, "the session ended")

    def _why_closed(self) -> Ending:
        watch, closed = self._wire.watch, self._connection.closed
        if watch.violation is not None:
            return Ending("ingestd", watch.violation.code, watch.violation.reason)
        if closed is None or closed.code == 1006:
            return Ending("network", 1006, "the connection ended without a close frame")
        if self._wire.close_sent or (watch.close_seen and closed.code not in _PROTOCOL_FAULTS):
            return Ending("publisher", closed.code, closed.reason or "")
        return Ending("ingestd", closed.code, f"protocol error: {closed.reason}")


async def _ours(wait: Callable[[], Awaitable[Closing]]) -> Ending:
    closing = await wait()
    return Ending("ingestd", closing.code, closing.reason)
