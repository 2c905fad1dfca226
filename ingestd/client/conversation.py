"""One connection of a publisher: open, hello, chunks and acknowledgements, until it ends or is found dead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.client import messages
from ingestd.client.connection import Line, ServerDefect
from ingestd.client.messages import Ack, End, Hello, Notice, Pressure, SourceWarning
from ingestd.client.outbox import Outbox

STATS_EVERY = 5.0
HELLO_TIMEOUT = 30.0
_NOT_RECORDED = "not_recorded"
_HELD_BACK = 6
"""So many times more patience for a server that has said that it is behind: it may not read."""

Heard: TypeAlias = Hello | Notice | End


@define(eq=False)
class Conversation:
    """`run` is the whole of it; afterwards the fields say what came of it.

    *opening* is the first message; *session* the one that it asks to go on with. *over* tells whether the
    source has given its last; *changed* is unparked when there is something new to send, and by what is
    heard. A peer that leaves a ping unanswered, and is not heard at all, for *ping_timeout* is given up, and
    so is one that says no hello for `HELLO_TIMEOUT`.
    """

    outbox: Outbox
    opening: str
    session: str | None
    over: Callable[[], bool]
    bitrate: Callable[[], int | None]
    on_heard: Callable[[Heard], None]
    changed: trio.lowlevel.ParkingLot
    ping_interval: float
    ping_timeout: float
    hello: Hello | None = None
    end: End | None = None
    defect: ServerDefect | None = None
    #: Why the connection was given up, if it was.
    dead: str = ""
    #: `end` was said: all that there is was sent on this connection.
    ended: bool = False
    #: The number up to which the server has acknowledged.
    acknowledged: int = 0
    _pressed: bool = False
    _pinged_at: float = field(default=math.inf)

    async def run(self, connection: WebSocketConnection, line: Line) -> None:
        """Until the server has closed, the connection is dead, or the server broke the protocol."""
        async with trio.open_nursery() as nursery:
            for task in (self._send, self._ping, self._tell_stats):
                nursery.start_soon(task, connection)
            nursery.start_soon(self._watch, line, nursery.cancel_scope)
            nursery.start_soon(self._expect_hello, nursery.cancel_scope)
            await self._listen(connection)
            nursery.cancel_scope.cancel()

    async def _listen(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                self._hear(messages.parse(await connection.get_message()))
        except ConnectionClosed:
            return
        except ServerDefect as defect:
            self.defect = defect

    def _hear(self, message: messages.ServerMessage | None) -> None:
        match message:
            case None:
                return
            case Hello():
                if self.hello is not None:
                    raise ServerDefect("a second hello")
                self.hello, self.acknowledged = message, message.next
                same = message.session == self.session
                most = message.limits.max_message
                self.outbox.greet(message.next, message.recorder, most, same=same)
            case Ack(following):
                if self.hello is None or not self.acknowledged <= following <= self.outbox.due:
                    raise ServerDefect("an ack of what was not sent, or that goes back")
                self.acknowledged = following
                self.outbox.acknowledge(following)
            case End():
                self.end = message
            case Pressure(active=active):
                self._pressed = active
            case SourceWarning(code=code) if code == _NOT_RECORDED:
                self.outbox.unrecorded = True
        if not isinstance(message, Ack):
            self.on_heard(message)
        self.changed.unpark_all()

    async def _send(self, connection: WebSocketConnection) -> None:
        try:
            await connection.send_message(self.opening)
            while self.hello is None:
                await self.changed.park()
            while True:
                last = self.over()
                said = self.outbox.take(last=last)
                for message in said:
                    await connection.send_message(message)
                if said and self.outbox.unrecorded:
                    self.changed.unpark_all()  # no ack will do it
                elif last and not said:
                    break
                elif not said:
                    await self.changed.park()
            await connection.send_message(messages.end())
            self.ended = True
        except ConnectionClosed:
            return  # `_listen` hears of it, too

    async def _tell_stats(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                await trio.sleep(STATS_EVERY)
                if self.hello is not None:
                    outbox = self.outbox
                    told = messages.stats(outbox.buffered.bytes, outbox.dropped.chunks, self.bitrate())
                    await connection.send_message(told)
        except ConnectionClosed:
            return

    async def _ping(self, connection: WebSocketConnection) -> None:
        try:
            while True:
                await trio.sleep(self.ping_interval)
                self._pinged_at = trio.current_time()
                await connection.ping()
                self._pinged_at = math.inf
        except ConnectionClosed:
            return

    async def _watch(self, line: Line, scope: trio.CancelScope) -> None:
        """Find the connection dead; twice, so that a pause of our own is not held against the peer."""
        late = 0
        while late < 2:
            await trio.sleep(self.ping_timeout / 4)
            patience = self.ping_timeout * (_HELD_BACK if self._pressed else 1)
            silent = trio.current_time() - max(self._pinged_at, line.heard_at)
            late = late + 1 if silent >= patience else 0
        self.dead = f"nothing was heard for {self.ping_timeout:g} s"
        scope.cancel()

    async def _expect_hello(self, scope: trio.CancelScope) -> None:
        await trio.sleep(HELLO_TIMEOUT)
        if self.hello is None:
            self.dead = f"no hello within {HELLO_TIMEOUT:g} s"
            scope.cancel()
