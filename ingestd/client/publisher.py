"""A publisher that survives its connections: it speaks ``ingestd.v1`` (``docs/protocol.md``)."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterable, Callable
from typing import TypeAlias

import trio
from attrs import define, field, frozen

from ingestd.client import messages
from ingestd.client.connection import (
    ABNORMAL,
    ConnectionFailed,
    Goodbye,
    OpenTcp,
    ServerDefect,
    check_url,
    converse,
)
from ingestd.client.conversation import Conversation, Heard
from ingestd.client.endings import SESSION_OVER, Backoff, Then, after_code, after_failure
from ingestd.client.messages import SUBPROTOCOL, Hello, Resume, clean
from ingestd.client.outbox import Buffer, Outbox

GIVE_UP_AFTER = 300.0
_STEADY = 5.0
"""Seconds after a hello for which a connection must live to count as one that works."""
_PAUSES = {Then.LATER: 1.0, Then.ANEW_LATER: 5.0}
_LONGEST_PAUSE = 5.0
_DEFECT = 1002


@frozen(slots=True)
class NewRecorder:
    """Given by a source between its chunks: the next one begins another recorder's container."""

    mime: str = ""


@frozen(slots=True)
class Lost:
    """A connection has ended, or could not be made; the next attempt is in *pause* seconds."""

    code: int
    reason: str
    pause: float


@frozen(slots=True)
class Dropped:
    """A gap: so many chunks, and bytes of the source, were given up."""

    chunks: int
    bytes: int


Event: TypeAlias = Heard | Lost | Dropped
Source: TypeAlias = AsyncIterable[bytes | NewRecorder]


@frozen(slots=True, kw_only=True)
class Published:
    """How a publication ended.

    *complete*: all that the source gave is acknowledged, and the server has closed in order. *code* and
    *reason* are the last close's; *gave_up*: no connection could be made for too long. *chunks* and *bytes*
    are those acknowledged, *missing_chunks* and *missing_bytes* the others that the source gave; of these,
    what was dropped lies in *gaps* gaps. *reconnects* counts hellos after the first; *sessions* how
    many sessions that were, *session* is the last one's id.
    """

    complete: bool
    code: int
    reason: str
    gave_up: bool
    chunks: int
    bytes: int
    missing_chunks: int
    missing_bytes: int
    gaps: int
    reconnects: int
    sessions: int
    session: str | None


@define(eq=False)
class Publisher:
    """Publishes one source to *url*, with the stream's *key* (or the key at the URL's end).

    *client* is a name for the server's status page. *buffer* bounds what is kept until it is acknowledged.
    After *give_up_after* seconds without a connection that works it gives up; 0: at the first loss. A peer
    that does not answer a ping, sent every *ping_interval* seconds, within *ping_timeout* is given up, and
    connected to again. *on_event* is called with what happens, and must not block or raise. *bitrate* (bits
    per second, None: not known) may be set at any time, and is told to the server. *open_tcp* makes the
    connections, for those who need a way of their own. Raises ValueError for a URL that is none.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    client: str = field(default="", kw_only=True)
    buffer: Buffer = field(factory=Buffer, kw_only=True)
    give_up_after: float = field(default=GIVE_UP_AFTER, kw_only=True)
    ping_interval: float = field(default=5.0, kw_only=True)
    ping_timeout: float = field(default=10.0, kw_only=True)
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True, repr=False)
    on_event: Callable[[Event], None] = field(default=lambda _event: None, kw_only=True, repr=False)
    bitrate: int | None = field(default=None, kw_only=True)
    open_tcp: OpenTcp = field(default=trio.open_tcp_stream, kw_only=True, repr=False)
    reconnects: int = field(default=0, init=False)
    #: Whether the server takes chunks at this moment.
    connected: bool = field(default=False, init=False)
    _outbox: Outbox = field(init=False)
    _hello: Hello | None = None
    _hello_at: float = 0.0
    _session: str | None = None
    _resume: Resume | None = None
    _sessions: int = 0
    _goodbye: Goodbye = field(factory=lambda: Goodbye(ABNORMAL, ""))
    _gave_up: bool = False
    _seat_left: bool = False  # the server may still see an earlier connection of ours
    _ended_at: float = -math.inf  # when a connection was lost on which all had been sent
    _give_up_at: float = math.inf
    _patience: trio.CancelScope = field(factory=trio.CancelScope)
    _backoff: Backoff = field(factory=Backoff)
    _over: bool = False
    _failure: Exception | None = None
    _refusal: ConnectionFailed | None = None
    _begun: trio.Event = field(factory=trio.Event)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _told_gaps: tuple[int, int, int] = (0, 0, 0)

    def __attrs_post_init__(self) -> None:
        check_url(self.url)
        self._outbox = Outbox(self.buffer)

    @property
    def outbox(self) -> Outbox:
        """What is kept, and the counts; to be read only."""
        return self._outbox

    async def run(self, source: Source) -> Published:
        """Push all of *source*, and return when the server has it, or will not have it.

        *source* is asked for its first chunk when the server is ready, and is made to wait when the buffer is
        full (unless that drops). Closing it is the caller's business. What it raises ends the publication
        in order, and is raised then.

        Raises `ConnectionFailed` if the first connection fails; later failures are in the result. Cancelled,
        it drops the connection at once and without an end, so that the session waits for its window. To be
        run once.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._produce, source)
            await self._deliver()
            nursery.cancel_scope.cancel()
        if self._refusal is not None:
            raise self._refusal
        if self._failure is not None:
            raise self._failure
        return self.result()

    def result(self) -> Published:
        """How it stands; after `run`, how it ended."""
        box, goodbye = self._outbox, self._goodbye
        missing = box.given.chunks - box.acknowledged.chunks, box.given.bytes - box.acknowledged.bytes
        return Published(
            complete=self._over and goodbye.code == 1000 and missing == (0, 0),
            code=goodbye.code,
            reason=goodbye.reason,
            gave_up=self._gave_up,
            chunks=box.acknowledged.chunks,
            bytes=box.acknowledged.bytes,
            missing_chunks=missing[0],
            missing_bytes=missing[1],
            gaps=box.gaps,
            reconnects=self.reconnects,
            sessions=self._sessions,
            session=self._hello.session if self._hello else None,
        )

    async def _produce(self, source: Source) -> None:
        await self._begun.wait()
        try:
            async for chunk in source:
                if isinstance(chunk, NewRecorder):
                    self._outbox.begin(chunk.mime)
                    continue
                self._outbox.put(chunk, trio.current_time())
                self._changed.unpark_all()
                while self._outbox.full:
                    await self._changed.park()
        except Exception as error:
            self._failure = error
        self._over = True
        self._changed.unpark_all()

    async def _deliver(self) -> None:
        """Connection after connection, until all is settled, or nothing can be done any more."""
        while True:
            with trio.CancelScope(deadline=self._give_up_at) as self._patience:
                then = await self._attempt()
            if self._patience.cancelled_caught:
                self._gave_up = True
                return
            if self._refusal is not None or then is Then.STOP:
                return
            now = trio.current_time()
            self._give_up_at = min(self._give_up_at, now + self.give_up_after)
            pause = max(self._backoff.next(), _PAUSES.get(then, 0.0))
            if then in (Then.ANEW, Then.ANEW_LATER):
                self._resume = self._session = None
            if now + pause >= self._give_up_at:
                self._gave_up = True
                return
            self.on_event(Lost(self._goodbye.code, self._goodbye.reason, pause))
            await trio.sleep(pause)

    async def _attempt(self) -> Then:
        """One connection; what is to be done after it."""
        talk = Conversation(
            self._outbox, messages.open_session(self.key, self.client, self._resume),
            self._session, lambda: self._over, lambda: self.bitrate,
            self._heard, self._changed, self.ping_interval, self.ping_timeout,
        )  # fmt: skip
        try:
            goodbye = await converse(
                self.url, talk.run, subprotocol=SUBPROTOCOL,
                ssl_context=self.ssl_context, open_tcp=self.open_tcp,
            )  # fmt: skip
        except ConnectionFailed as failure:
            if not self._begun.is_set() and not self._seat_left:
                self._refusal = failure
            self._goodbye = Goodbye(ABNORMAL, str(failure))
            return after_failure(failure)
        except ServerDefect as defect:
            talk.defect, goodbye = defect, self._goodbye
        finally:
            self._outbox.hang_up()
            self.connected = False
        return self._after(talk, goodbye)

    def _after(self, talk: Conversation, goodbye: Goodbye) -> Then:
        asked = self._resume is not None
        if talk.hello is not None:
            now, hello = trio.current_time(), talk.hello
            worked = talk.acknowledged > hello.next or now - self._hello_at >= _STEADY
            self._backoff.reset(worked=worked)
            self._give_up_at = math.inf if worked else self._give_up_at
            if hello.token is not None:
                self._resume = Resume(hello.session, hello.token)
            self._ended_at = now if talk.ended else -math.inf
        self._tell_gaps()
        if talk.defect is not None:
            self._goodbye = Goodbye(_DEFECT, f"the server broke the protocol: {talk.defect}")
            return Then.STOP
        if talk.dead:
            goodbye = Goodbye(ABNORMAL, talk.dead)
        elif talk.end is not None:
            goodbye = Goodbye(talk.end.code, talk.end.reason)
        elif goodbye.code == ABNORMAL:
            goodbye = Goodbye(ABNORMAL, "the connection broke")
        self._goodbye = Goodbye(goodbye.code, clean(goodbye.reason))
        then = after_code(goodbye.code)
        if then is Then.LATER and not self._begun.is_set() and not self._seat_left:
            return Then.STOP
        if goodbye.code == ABNORMAL:
            self._seat_left = True
        if then in (Then.ANEW, Then.ANEW_LATER):
            return self._begin_anew(then, goodbye.code, asked=asked)
        return then

    def _begin_anew(self, then: Then, code: int, *, asked: bool) -> Then:
        """Whether there is something to begin another session for."""
        window = self._hello.limits.window if self._hello else 0.0
        if code == SESSION_OVER and trio.current_time() - self._ended_at < window:
            # Nothing but our end has ended it, and before that came all the rest.
            self._outbox.acknowledge(self._outbox.due)
        if self._over and self._outbox.empty:
            if code == SESSION_OVER:
                self._goodbye = Goodbye(1000, "the session has ended")
            return Then.STOP
        # Without a session to be resumed these say that there can be none.
        return then if asked or then is Then.ANEW_LATER else Then.STOP

    def _heard(self, message: Heard) -> None:
        if isinstance(message, Hello):
            self._sessions += self._hello is None or self._hello.session != message.session
            self.reconnects += self._hello is not None
            self._hello, self._hello_at, self._session = message, trio.current_time(), message.session
            self._backoff.longest = min(_LONGEST_PAUSE, max(0.2, message.limits.window / 4))
            self.connected = True
            self._seat_left = False
            self._begun.set()
            self._patience.deadline = math.inf
        self._tell_gaps()
        self.on_event(message)

    def _tell_gaps(self) -> None:
        box = self._outbox
        told, now = self._told_gaps, (box.gaps, box.dropped.chunks, box.dropped.bytes)
        if now[0] > told[0]:
            self._told_gaps = now
            self.on_event(Dropped(now[1] - told[1], now[2] - told[2]))
