"""One admitted publisher: its messages into the session's channel, until one side ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import ClassVar, Literal

import structlog
import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.config import Ingest
from ingestd.errors import PublishRefused
from ingestd.live.publication import Chunk, Closing, Item, Publication
from ingestd.sources.heartbeat import Vitals, ping_forever, wait_fault
from ingestd.sources.secrets import Secrets
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
    """Runs one publication over *connection*; *wire* is the stream under it.

    Each binary message is a chunk, and a normal close says that the publisher is done.
    """

    #: A close that says so, or has no code; a page that goes away says 1001.
    _done_codes: ClassVar[tuple[int, ...]] = (1000, 1005)

    def __init__(
        self,
        config: Ingest,
        connection: WebSocketConnection,
        wire: Wire,
        publication: Publication,
        secrets: Secrets,
    ) -> None:
        self._config = config
        self._connection = connection
        self._wire = wire
        self._publication = publication
        self._secrets = secrets
        self._vitals = Vitals(config, wire)
        self._forwarded = 0
        self._empty = 0

    async def run(self) -> Ending:
        """Receive until the publisher goes, fails a check, or the session asks for its end.

        Whatever was complete when the publisher went is in the channel before it is closed. Cancelled,
        it closes the channel and logs like any other end.
        """
        publication, ending = self._publication, STOPPED
        log.info(
            "publisher_connected", stream=publication.stream, remote=publication.remote, **self._described()
        )
        try:
            async with publication.chunks:
                try:
                    ending = await self._first_ending()
                finally:
                    said_so = ending.by == "publisher" and ending.code in self._done_codes
                    publication.leave(done=publication.done or said_so)
        finally:
            log.info(
                "publisher_gone",
                stream=publication.stream,
                remote=publication.remote,
                by=ending.by,
                code=ending.code,
                reason=self._secrets.redact(ending.reason),
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
            for wait in self._waits():
                nursery.start_soon(race, wait)
            nursery.start_soon(ping_forever, self._connection, self._vitals, self._config.ping_interval)
        return endings[0]

    async def _pump(self) -> Ending:
        try:
            while True:
                await self._take(await self._connection.get_message())
        except ConnectionClosed:
            return why_closed(self._connection, self._wire)
        except PublishRefused as refusal:
            return Ending("ingestd", refusal.code, refusal.reason)
        except trio.BrokenResourceError:
            # The session dropped its end; what it says itself in `close` is the better cause.
            await trio.sleep(_SESSION_GRACE)
            return Ending("ingestd", 4500, "the session ended")

    async def _put(self, item: Item) -> None:
        """Into the channel; while that is full, the publisher is held back."""
        try:
            self._publication.chunks.send_nowait(item)
        except trio.WouldBlock:
            with self._vitals.holding_back():
                await self._publication.chunks.send(item)

    # What a subprotocol does in its own way

    def _described(self) -> dict[str, str]:
        """What the log says of a publisher beside its stream and address."""
        return {}

    def _waits(self) -> Iterable[Callable[[], Awaitable[Ending]]]:
        """All that may end the publication."""
        yield self._pump
        yield partial(_ours, self._publication.wait_closing)
        yield partial(_ours, partial(wait_fault, self._vitals))

    async def _take(self, message: str | bytes) -> None:
        """Handle one message. Raises `PublishRefused`."""
        if not isinstance(message, bytes):
            raise TypeError("a text message passed the frame watch")
        if not message:
            self._empty += 1
            return
        await self._put(Chunk(message))
        self._forwarded += 1


def why_closed(connection: WebSocketConnection, wire: Wire) -> Ending:
    """How *connection*, which raised `ConnectionClosed`, came to its end."""
    watch, closed = wire.watch, connection.closed
    if watch.violation is not None:
        return Ending("ingestd", watch.violation.code, watch.violation.reason)
    if closed is None or closed.code == 1006:
        return Ending("network", 1006, "the connection ended without a close frame")
    if wire.close_sent or (watch.close_seen and closed.code not in _PROTOCOL_FAULTS):
        return Ending("publisher", closed.code, closed.reason or "")
    return Ending("ingestd", closed.code, f"protocol error: {closed.reason}")


async def _ours(wait: Callable[[], Awaitable[Closing]]) -> Ending:
    closing = await wait()
    return Ending("ingestd", closing.code, closing.reason)
