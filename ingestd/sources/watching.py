"""Viewers: each connection from its request to its close, over WebSocket or as one plain HTTP body.

``docs/viewing.md`` lists messages, statuses, close codes and log events.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Literal

import structlog
import trio
from attrs import define, field, frozen
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from ingestd.auth.authority import Authority
from ingestd.auth.question import Unknown
from ingestd.config import Ingest, Viewers
from ingestd.errors import WatchRefused
from ingestd.live.audience import Audience
from ingestd.live.publication import Closing
from ingestd.live.viewer import (
    DISABLED,
    GOING_AWAY,
    NO_SUCH_STREAM,
    NOT_ALLOWED,
    TOO_MANY,
    TOO_MANY_TRIES,
    UNPLAYABLE,
    Coding,
    Framed,
    Plain,
    Viewer,
)
from ingestd.sources.framing import BINARY, FrameWatch
from ingestd.sources.upgrade import UpgradeRefused, WatchRequest
from ingestd.sources.wire import bound_unsent, reset_on_close

CLOSE_TIMEOUT = 5.0
"""Seconds for a viewer to take what was begun and to answer a close frame; then the connection is reset."""
GOODBYE_TIMEOUT = 1.0
"""The same when the daemon stops."""
MAX_TEXT = 4096
"""Bytes of a viewer's text message; none is needed."""
RETRY_AFTER = 5

_HALF_OPEN = 4410
_READ = 4096
_NOT_TAKEN = Closing(1003, "nothing is taken from viewers: binary messages are for publishers")
_STATUSES = {
    NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    NO_SUCH_STREAM: HTTPStatus.NOT_FOUND,
    UNPLAYABLE: HTTPStatus.NOT_ACCEPTABLE,
    DISABLED: HTTPStatus.FORBIDDEN,
    TOO_MANY_TRIES: HTTPStatus.TOO_MANY_REQUESTS,
    TOO_MANY: HTTPStatus.SERVICE_UNAVAILABLE,
    GOING_AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
}
_TRY_AGAIN = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)

log = structlog.get_logger(__name__)


@frozen(slots=True)
class _Gone:
    """How a viewer's connection ended: *by* whom, with which close code and reason."""

    by: str
    code: int
    reason: str = ""


@define(eq=False)
class Watching:
    """Serves viewers on the ingest listener; *authority* says who may watch what."""

    ingest: Ingest
    viewers: Viewers
    audience: Audience
    authority: Authority

    async def serve(self, stream: trio.SocketStream, asked: WatchRequest, remote: str, address: str) -> None:
        """One viewer from its request to its end. Leaves closing *stream* to the caller.

        Raises `UpgradeRefused` for a plain request that is refused. Cancelled, it tells the viewer 1001.
        """
        refusal = await self._refusal(asked, address)
        bound_unsent(stream, self.viewers.send_buffer)
        if asked.nonce is None:
            if refusal is not None:
                raise _as_status(refusal)
            await _PlainViewer(self, stream, asked, remote).run()
        else:
            await stream.send_all(accepted(asked.nonce, asked.subprotocol))
            await _SocketViewer(self, stream, asked, remote).run(refusal)

    async def _refusal(self, asked: WatchRequest, address: str) -> WatchRefused | None:
        """Why the client may not watch, if it may not; wrong tokens are counted by address."""
        links = self.authority.failed_links
        if self.authority.config.playback != "open" and (wait := links.held_back(address)):
            return WatchRefused(TOO_MANY_TRIES, f"too many wrong tokens; try again in {math.ceil(wait)} s")
        try:
            if await self.authority.may_watch(asked.stream, asked.token, address):
                return None
        except Unknown as error:
            return WatchRefused(TOO_MANY, str(error))
        if asked.token is not None:
            links.count(address)
        return WatchRefused(NOT_ALLOWED, "this stream needs a link that is still good: ask where you got it")


@define(eq=False)
class _Connection:
    """What both kinds of viewers have in common."""

    watching: Watching
    stream: trio.SocketStream
    asked: WatchRequest
    remote: str
    viewer: Viewer = field(init=False)
    began: float = field(factory=trio.current_time)

    def _viewer(self, nursery: trio.Nursery, coding: Coding, kind: Literal["websocket", "http"]) -> Viewer:
        return Viewer(self.stream.socket, nursery, coding, self.asked.stream, self.remote, kind)

    def left(self, gone: _Gone) -> None:
        """Log the end of a viewer that had joined; the kernel keeps nothing for one that is dead."""
        if gone.code == _HALF_OPEN:
            reset_on_close(self.stream)
        log.info(
            "viewer_left", stream=self.asked.stream, remote=self.remote, kind=self.viewer.kind, by=gone.by,
            code=gone.code, reason=gone.reason, seconds=round(trio.current_time() - self.began, 1),
            bytes=self.viewer.sent, skipped=self.viewer.skipped,
        )  # fmt: skip

    def joined(self) -> None:
        log.info("viewer_joined", stream=self.asked.stream, remote=self.remote, kind=self.viewer.kind)

    def refused(self, refusal: WatchRefused) -> None:
        log.info("viewer_refused", remote=self.remote, code=refusal.code, reason=refusal.reason)

    @property
    def stuck(self) -> bool:
        """Whether the viewer's socket has taken nothing for as long as a ping may go unanswered."""
        config, viewer = self.watching.ingest, self.viewer
        allowed = config.ping_interval + config.ping_timeout
        return viewer.busy and trio.current_time() - viewer.drained_at >= allowed

    async def flush(self, gone: _Gone, timeout: float) -> bool:  # noqa: ASYNC109  a bound, kept on cancellation
        """Bring what was begun to its end within *timeout* seconds, whatever is cancelled; False if not."""
        scope = trio.CancelScope(shield=True, relative_deadline=timeout)
        with scope:
            await self.viewer.flush(gone.code, gone.reason)
        if scope.cancelled_caught or self.viewer.lost:
            reset_on_close(self.stream)
            return False
        return True


class _SocketViewer(_Connection):
    """A viewer over WebSocket, after its handshake was answered."""

    async def run(self, refusal: WatchRefused | None) -> None:
        gone, timeout, joined = _Gone("ingestd", GOING_AWAY, "the server is stopping"), GOODBYE_TIMEOUT, False
        self._frames = FrameWatch(0, MAX_TEXT)
        self._frames.refused = {BINARY: _NOT_TAKEN}
        self._protocol = Connection(ConnectionType.SERVER)
        try:
            async with trio.open_nursery() as nursery:
                self.viewer = self._viewer(nursery, Framed(), "websocket")
                try:
                    if refusal is not None:
                        raise refusal
                    with self.watching.audience.watching(self.asked.stream, self.viewer):
                        joined = True
                        self.joined()
                        gone, timeout = await self._listen(), CLOSE_TIMEOUT
                except WatchRefused as error:
                    self.refused(error)
                    gone, timeout = _Gone("ingestd", error.code, error.reason), CLOSE_TIMEOUT
                nursery.cancel_scope.cancel()
            if self.viewer.lost:
                gone = _Gone("network", 1006)
            elif self.viewer.closing is not None:
                gone, timeout = _Gone("ingestd", *self.viewer.closing), CLOSE_TIMEOUT
        finally:
            if joined:
                self.left(gone)
            if gone.by != "network" and await self.flush(gone, timeout) and gone.by == "ingestd":
                await self._close_answered(timeout)

    async def _listen(self) -> _Gone:
        """Read and ping until the viewer goes, is dead, or breaks the protocol."""
        config = self.watching.ingest
        pinged: float | None = None
        while True:
            wait = config.ping_timeout if pinged is not None else config.ping_interval or config.ping_timeout
            data: bytes | bytearray | None = None
            with trio.move_on_after(wait):
                try:
                    data = await self.stream.receive_some(_READ)
                except trio.BrokenResourceError:
                    data = b""
            if data:
                pinged = None
                if gone := self._take(data):
                    return gone
            elif data is not None:
                return _Gone("network", 1006)
            elif self.stuck or (pinged is not None and self.viewer.drained_at < pinged):
                return _Gone("network", _HALF_OPEN, "half-open")
            elif config.ping_interval:
                pinged = trio.current_time()
                self.viewer.ping()

    def _take(self, data: bytes | bytearray) -> _Gone | None:
        """Handle what the viewer sent; how it ended, if it did."""
        clean = self._frames.feed(data, trio.current_time())
        protocol = self._protocol
        try:
            protocol.receive_data(bytes(data[:clean]))
            for event in protocol.events():
                match event:
                    case Ping():
                        self.viewer.pong(bytes(event.payload))
                    case CloseConnection(code=code, reason=reason):
                        if self._frames.close_seen and code != CloseReason.PROTOCOL_ERROR:
                            return _Gone("viewer", 1000 if code == 1005 else code)
                        return _Gone("ingestd", code, f"protocol error: {reason}")
        except (LocalProtocolError, RemoteProtocolError):
            return _Gone("ingestd", 1002, "protocol error")
        if (violation := self._frames.violation) is not None:
            return _Gone("ingestd", violation.code, violation.reason)
        return None

    async def _close_answered(self, timeout: float) -> None:  # noqa: ASYNC109  a bound, kept on cancellation
        """Wait until the viewer has read our close frame: a reset could overtake it."""
        scope = trio.CancelScope(shield=True, relative_deadline=timeout)
        with scope:
            try:
                while not self._frames.close_seen:
                    data = await self.stream.receive_some(_READ)
                    if not data:
                        return
                    self._frames.feed(data, trio.current_time())
            except trio.BrokenResourceError:
                return
        if scope.cancelled_caught:
            reset_on_close(self.stream)


class _PlainViewer(_Connection):
    """A viewer that reads one endless body."""

    async def run(self) -> None:
        """Raises `UpgradeRefused` while nothing was answered."""
        gone, timeout = _Gone("ingestd", GOING_AWAY, "the server is stopping"), GOODBYE_TIMEOUT
        refusal: WatchRefused | None = None
        joined = False
        try:
            async with trio.open_nursery() as nursery:
                self.viewer = self._viewer(nursery, Plain(), "http")
                try:
                    with self.watching.audience.watching(self.asked.stream, self.viewer):
                        joined = True
                        self.joined()
                        nursery.start_soon(self._give_up, nursery.cancel_scope)
                        gone = await self._listen()
                except WatchRefused as error:
                    refusal = error
                nursery.cancel_scope.cancel()
            viewer = self.viewer
            if viewer.lost:
                gone = _Gone("network", 1006)
            elif viewer.closing is not None:
                gone, timeout = _Gone("ingestd", *viewer.closing), CLOSE_TIMEOUT
                refusal = refusal or WatchRefused(*viewer.closing)
            elif viewer.over:
                gone, timeout = _Gone("ingestd", 1000, "the session is over"), CLOSE_TIMEOUT
        finally:
            if joined:
                self.left(gone)
            if gone.by == "ingestd" and joined and self.viewer.begun.is_set():
                await self.flush(gone, timeout)
        if gone.by != "network" and not self.viewer.begun.is_set():
            refusal = refusal or WatchRefused(TOO_MANY, "nothing is live yet")
            if not joined:
                self.refused(refusal)
            raise _as_status(refusal)

    async def _give_up(self, scope: trio.CancelScope) -> None:
        with trio.move_on_after(self.watching.viewers.patience):
            await self.viewer.begun.wait()
        if not self.viewer.begun.is_set():
            scope.cancel()

    async def _listen(self) -> _Gone:
        """Wait until the viewer goes; what it sends is nothing to us."""
        config = self.watching.ingest
        while not self.stuck:
            with trio.move_on_after(config.ping_interval + config.ping_timeout):
                try:
                    if not await self.stream.receive_some(_READ):
                        return _Gone("network", 1006)
                except trio.BrokenResourceError:
                    return _Gone("network", 1006)
        return _Gone("network", _HALF_OPEN, "half-open")


def accepted(nonce: bytes, subprotocol: str | None) -> bytes:
    """The answer to a handshake (RFC 6455, section 4.2.2)."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {generate_accept_token(nonce).decode()}",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
    ]
    return "\r\n".join((*lines, "", "")).encode()


def _as_status(refusal: WatchRefused) -> UpgradeRefused:
    """*refusal* for who reads HTTP."""
    status = _STATUSES.get(refusal.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    retry = [f"Retry-After: {RETRY_AFTER}"] if status in _TRY_AGAIN else []
    return UpgradeRefused(status, refusal.reason + ".", "Access-Control-Allow-Origin: *", *retry)
