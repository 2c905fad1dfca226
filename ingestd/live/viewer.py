"""One who watches: a place in a relay's ring, and a socket that is written to without ever waiting for it."""

from __future__ import annotations

import json
import os
from typing import Literal, Protocol, TypeAlias

import structlog
import trio
from attrs import define, field

from ingestd.live.ring import Init, Message, Ring
from ingestd.server_frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    close_frame,
    control_frame,
    frame_head,
    text_frame,
)

Data: TypeAlias = bytes | memoryview

log = structlog.get_logger(__name__)

#: Close codes; see ``docs/viewing.md``.
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
TOO_MANY = 1013
NOT_ALLOWED = 4401
NO_SUCH_STREAM = 4404
UNPLAYABLE = 4415
DISABLED = 4423
TOO_MANY_TRIES = 4429


class Coding(Protocol):
    """How messages go to a viewer."""

    def opening(self, init: Init, first: Message) -> bytes | None:
        """What goes before *first*, the first message of *init*; None if it must not follow."""

    def media(self, message: Message) -> Data: ...

    def text(self, message: Message) -> Data | None:
        """A text that is for everybody; None to leave it out."""

    def skipped(self, frames: int, ms: int) -> bytes: ...


class Framed:
    """A WebSocket: all of it."""

    def opening(self, init: Init, first: Message) -> bytes | None:
        text = {
            "type": "init", "media": init.media, "time": first.time, "session": init.session,
            "live": init.live,
        }  # fmt: skip
        return text_frame(json.dumps(text)) + frame_head(BINARY, len(init.segment)) + init.segment

    def media(self, message: Message) -> Data:
        return message.frame

    def text(self, message: Message) -> Data | None:
        return message.frame

    def skipped(self, frames: int, ms: int) -> bytes:
        return text_frame(json.dumps({"type": "skipped", "frames": frames, "ms": ms}))


@define
class Plain:
    """The body of an HTTP response: media and nothing else, of one session and with one init segment."""

    init: Init | None = None

    def opening(self, init: Init, first: Message) -> bytes | None:
        del first
        if self.init is not None:
            return None
        self.init = init
        return response_head(init.media) + init.segment

    def media(self, message: Message) -> Data:
        return message.payload

    def text(self, message: Message) -> Data | None:
        del message
        return None

    def skipped(self, frames: int, ms: int) -> bytes:
        del frames, ms
        return b""


def response_head(media: str) -> bytes:
    """The head of a response whose body goes on until the connection is closed."""
    lines = (
        "HTTP/1.1 200 OK", f"Content-Type: {media.partition(';')[0]}", "Access-Control-Allow-Origin: *",
        "Cache-Control: no-store", "X-Accel-Buffering: no", "X-Content-Type-Options: nosniff",
        "Connection: close", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


@define(eq=False)
class Viewer:
    """Writes to *socket* what its ring has, and what it is told itself, in whole frames.

    *nursery* is the connection's: it gets a task while the socket is full, and is cancelled by `end`. The
    connection looks at *busy* and *drained_at*.
    """

    socket: trio.socket.SocketType
    nursery: trio.Nursery
    coding: Coding
    stream: str = ""
    remote: str = "unknown"
    kind: Literal["websocket", "http"] = "websocket"
    #: Bytes that the socket has taken, media frames that it was too slow for.
    sent: int = 0
    skipped: int = 0
    #: The socket is full; since when it has taken nothing.
    busy: bool = False
    drained_at: float = 0.0
    #: Why we end it: a close code and a reason.
    closing: tuple[int, str] | None = None
    lost: bool = False
    over: bool = False
    #: That of the stream which it came for (`Stream.life`).
    life: str = ""
    init: Init | None = None
    begun: trio.Event = field(factory=trio.Event)
    _ring: Ring | None = None
    _cursor: int = 0
    _awaits_start: bool = True
    _expected: tuple[int, int] = (0, 0)
    _own: dict[int, bytes] = field(factory=dict)
    _rest: Data = b""

    # Its place

    def attach(self, ring: Ring) -> None:
        """Begin at the newest random access point of *ring*, or the next."""
        self._ring, self._awaits_start = ring, True
        self._cursor = ring.end if ring.newest_start is None else ring.newest_start

    def detach(self) -> None:
        """There is nothing more in the ring for it."""
        self._ring = None

    @property
    def waits(self) -> bool:
        """Whether it has nothing to show, and nothing on its way."""
        ring = self._ring
        return self._awaits_start and (ring is None or self._cursor >= ring.end)

    # What it alone is told

    def say(self, text: str) -> None:
        """Tell *text*; of several that the socket has no room for, the last."""
        if isinstance(self.coding, Framed):
            self._own[TEXT] = text_frame(text)
            self.pump()

    def ping(self) -> None:
        self._own[PING] = control_frame(PING)
        self.pump()

    def pong(self, payload: bytes) -> None:
        """Answer a ping; of several that wait, the last (RFC 6455, section 5.5.3)."""
        self._own[PONG] = control_frame(PONG, payload)
        self.pump()

    def end(self, code: int, reason: str) -> None:
        """Have its connection end, for a reason of ours; the first one counts."""
        if self.closing is None:
            self.closing = code, reason
        self.detach()
        self.nursery.cancel_scope.cancel()

    async def flush(self, code: int, reason: str) -> None:
        """Write what was begun, then a close frame where there are frames; nothing else any more."""
        self.detach()
        self._own.clear()
        if isinstance(self.coding, Framed):
            self._own[CLOSE] = close_frame(code, reason)
        self.busy = True
        self.pump()
        await self._catch_up()

    # Writing

    def offer(self, message: Message) -> None:
        """Write *message*, the newest of its ring; for one that is not `busy`: it has all before it."""
        if message.init is self.init and not self._awaits_start:
            self._cursor += 1
            self._expected = message.first + message.frames, message.time
            self._write(self.coding.media(message))
        else:
            self.pump()

    def pump(self) -> None:
        """Write what there is, as far as the socket takes it; a task writes the rest."""
        while data := self._rest or self._next():
            if not self._write(data):
                return
        if self.over:
            self.nursery.cancel_scope.cancel()

    def _write(self, data: Data) -> bool:
        """Write *data*; False if the socket did not take all of it, or is gone."""
        try:
            taken = os.write(self.socket.fileno(), data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.lost, self._rest = True, b""
            self.nursery.cancel_scope.cancel()
            return False
        self.sent += taken
        if taken == len(data):
            self._rest = b""
            return True
        self._rest = memoryview(data)[taken:]
        if not self.busy:
            self.busy, self.drained_at = True, trio.current_time()
            self.nursery.start_soon(self._catch_up)
        return False

    async def _catch_up(self) -> None:
        while self._rest:
            await trio.lowlevel.wait_writable(self.socket)
            self.drained_at = trio.current_time()
            self.pump()
        self.busy = False

    def _next(self) -> Data | None:
        """The next whole frames. Control frames go first: they may stand between any two messages."""
        if self._own:
            return self._own.pop(next(iter(self._own)))
        ring = self._ring
        while ring is not None and self._cursor < ring.end and not self.over:
            message = ring.at(self._cursor)
            if message is None or (self.busy and ring.lag_at(self._cursor) > ring.max_lag):
                message = self._leap(ring, message)
            if message is None:
                continue
            self._cursor += 1
            if data := self._encoded(message):
                return data
        return None

    def _leap(self, ring: Ring, message: Message | None) -> Message | None:
        """Too far behind: go on at the newest random access point, if there is one ahead."""
        start = ring.newest_start
        if start is not None and start > self._cursor:
            self._cursor, self._awaits_start = start, True
            return ring.at(start)
        if message is None:
            self._cursor, self._awaits_start = max(self._cursor + 1, ring.begin), True
        return message

    def _encoded(self, message: Message) -> Data | None:
        if message.init is None:
            self.over = self.over or (message.ends and isinstance(self.coding, Plain))
            return self.coding.text(message)
        if self._awaits_start and not message.starts:
            return None
        before = b""
        if self._awaits_start and self.init is not None:
            before = self._left_out(message)
        if message.init is not self.init:
            opening = self.coding.opening(message.init, message)
            if opening is None:
                self.over = True
                return None
            before += opening
            self.init = message.init
            self.begun.set()
        self._awaits_start = False
        self._expected = message.first + message.frames, message.time
        media = self.coding.media(message)
        return b"".join((before, media)) if before else media

    def _left_out(self, message: Message) -> bytes:
        following, time = self._expected
        frames = message.first - following
        if frames <= 0:
            return b""
        self.skipped += frames
        before = self.init.session if self.init is not None else None
        same = message.init is not None and message.init.session == before
        ms = max(0, message.time - time) if same else 0
        log.info("viewer_skipped", stream=self.stream, remote=self.remote, frames=frames, ms=ms)
        return self.coding.skipped(frames, ms)
