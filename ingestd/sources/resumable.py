"""A publisher that speaks ``ingestd.v1``: numbered chunks in, acknowledgements and notices out."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import trio
from attrs import evolve
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.config import Ingest
from ingestd.errors import PublishRefused
from ingestd.live.publication import Accepted, Closing, News, Publication, Skip, Stats
from ingestd.server_frames import text_frame
from ingestd.sources import protocol
from ingestd.sources.framing import BINARY
from ingestd.sources.heartbeat import STALLED
from ingestd.sources.protocol import SUBPROTOCOL, Done, Open, Recorder, Violation
from ingestd.sources.publisher import Ending, Publisher, why_closed
from ingestd.sources.secrets import Secrets
from ingestd.sources.wire import Wire

PACE = 0.1
"""Seconds between two rounds of acknowledgements and notices; what comes between is told together."""

_EARLY = Closing(protocol.VIOLATION, "a chunk before hello")
_FINISHED = "the publisher is done: all of its chunks are in the journal"


def farewell(closing: Closing) -> bytes:
    """The frames that go before the close frame."""
    return text_frame(protocol.end(closing))


async def read_open(connection: WebSocketConnection, wire: Wire, secrets: Secrets, within: float) -> Open:
    """The client's first message, which must come *within* so many seconds; *secrets* learns those in it.

    Raises `PublishRefused`, and `ConnectionClosed` when the client went before it was complete.
    """
    wire.watch.refused[BINARY] = _EARLY
    try:
        with trio.fail_after(within):
            message = await connection.get_message()
    except trio.TooSlowError:
        raise PublishRefused(STALLED, f"stalled: no open message for {within:g} s") from None
    except ConnectionClosed:
        ending = why_closed(connection, wire)
        if ending.owed is None:
            raise
        raise PublishRefused(ending.code, ending.reason) from None
    opening = protocol.parse(str(message))
    if not isinstance(opening, Open):
        raise Violation("the first message is not open")
    secrets.add(opening.key, opening.resume.token if opening.resume else None)
    return opening


class ResumablePublisher(Publisher):
    """Runs one publication that *opening* asked for.

    The publisher is done when its `Done` says so; any other end leaves it the way back.
    """

    _done_codes = ()

    def __init__(
        self,
        config: Ingest,
        connection: WebSocketConnection,
        wire: Wire,
        publication: Publication,
        secrets: Secrets,
        opening: Open,
    ) -> None:
        super().__init__(config, connection, wire, publication, secrets)
        publication.claims.client = secrets.redact(opening.client)
        self._greeted = False  # until then, the numbers mean nothing
        self._next = 0
        self._acknowledged = 0  # and told so
        self._recorder: int | None = None  # announced on this connection
        self._least_recorder = 0
        self._follows = False
        self._unsaid: deque[str] = deque()
        self._done = trio.Event()

    def _described(self) -> dict[str, str]:
        return {"subprotocol": SUBPROTOCOL, "client": self._publication.claims.client}

    def _waits(self) -> Iterable[Callable[[], Awaitable[Ending]]]:
        yield from super()._waits()
        yield self._speak
        yield self._finish

    # What the client says

    async def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self._take_chunk(message)
            return
        said = protocol.parse(message)
        if isinstance(said, Open):
            raise Violation("a second open")
        if not self._greeted:
            raise Violation("a message between open and hello")
        if isinstance(said, Stats):
            self._publication.claims.stats = said
        elif said is not None:
            if self._done.is_set():
                raise Violation("a message after end")
            await self._obey(said)

    async def _take_chunk(self, message: bytes) -> None:
        chunk = protocol.parse_chunk(message)
        if self._done.is_set():
            raise Violation("a chunk after end")
        if chunk.number != self._next:
            raise Violation(f"chunk {chunk.number} where {self._next} was due")
        if chunk.recorder != self._recorder:
            raise Violation(f"a chunk of recorder {chunk.recorder}, which is not the one announced last")
        await self._put(evolve(chunk, follows=True) if self._follows else chunk)
        self._next += 1
        self._forwarded += 1
        self._empty += not chunk.data

    async def _obey(self, said: Recorder | Skip | Done) -> None:
        match said:
            case Recorder(number, mime, follows):
                if number < self._least_recorder:
                    raise Violation(f"recorder {number} after recorder {self._least_recorder}")
                self._recorder = self._least_recorder = number
                self._follows = follows
                self._publication.claims.mime = self._secrets.redact(mime)
            case Skip(to, reason):
                if to <= self._next:
                    raise Violation(f"a skip to {to} where chunk {self._next} is due")
                await self._put(evolve(said, reason=self._secrets.redact(reason)))
                self._next = to
            case Done():
                self._done.set()
                self._publication.leave(done=True)
                self._publication.chunks.close()

    # What the client is told

    async def _speak(self) -> Ending:
        publication = self._publication
        with self._vitals.holding_back():  # nothing is expected of the client meanwhile
            accepted = await publication.wait_accepted()
        self._secrets.add(accepted.token)
        self._unsaid.append(protocol.hello(publication.stream, accepted, self._config))
        self._begin(accepted)
        try:
            while True:
                await self._say_all()
                await trio.sleep(PACE)
                self._hear(await publication.news())
        except ConnectionClosed:
            return await trio.sleep_forever()  # the task that receives tells why

    def _begin(self, accepted: Accepted) -> None:
        self._greeted = True
        self._next = self._acknowledged = accepted.next
        self._least_recorder = accepted.recorder or 0
        self._wire.watch.refused.clear()
        self._wire.farewell = self._farewell

    def _hear(self, news: News) -> None:
        if news.acknowledged > self._acknowledged:
            self._acknowledged = news.acknowledged
            self._unsaid.append(protocol.ack(news.acknowledged))
        self._unsaid.extend(map(protocol.notice, news.notices))

    async def _say_all(self) -> None:
        while self._unsaid:
            with self._vitals.sending():
                await self._connection.send_message(self._unsaid[0])
            self._unsaid.popleft()

    def _farewell(self, closing: Closing) -> bytes:
        """What is still unsaid, then `farewell`. Of a message that was cut short the wire knows."""
        self._hear(self._publication.news_nowait())
        return b"".join(map(text_frame, self._unsaid)) + farewell(closing)

    async def _finish(self) -> Ending:
        """Once the client is done, and all that it sent is acknowledged, it may go."""
        await self._done.wait()
        with self._vitals.holding_back():  # silence is no fault now
            await self._publication.wait_acknowledged(self._next)
        return Ending("ingestd", 1000, _FINISHED)
