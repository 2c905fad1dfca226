"""The receiver: publishers over WebSocket, each message one chunk into its session's channel; and viewers.

``docs/publishing.md`` lists the paths, statuses, close codes and log events; ``docs/viewing.md`` viewers'.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog
import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream

from ingestd.address import Address
from ingestd.auth.gate import REFUSED, Gate
from ingestd.config import Ingest
from ingestd.errors import PublishRefused, leaves
from ingestd.live.publication import Admission, Publication, Resume
from ingestd.origins import parse_origin
from ingestd.sources.framing import FrameWatch
from ingestd.sources.protocol import MAX_TEXT, Violation
from ingestd.sources.publisher import STOPPED, Ending, Publisher
from ingestd.sources.resumable import ResumablePublisher, farewell, read_open
from ingestd.sources.secrets import Secrets
from ingestd.sources.upgrade import Upgrade, UpgradeRefused, WatchRequest, read_upgrade
from ingestd.sources.watching import Watching
from ingestd.sources.wire import Wire, reset_on_close

CLOSE_TIMEOUT = 5.0
"""Seconds for the peer to answer a close frame or to read a refusal; then the connection is reset."""
GOODBYE_TIMEOUT = 1.0
"""The same when the daemon stops."""
MAX_HANDSHAKES = 256
"""Connections in the opening handshake at a time; one more is answered 503."""

_STRANGE_HOST = (
    "The Host header is none of this listener's: use a loopback name, or set public_url in [control]."
)
_STRANGE_PAGE = (
    "Pages of this origin may not connect: add it to origins in [ingest], or set public_url in [control] "
    "to what browsers see."
)

log = structlog.get_logger(__name__)

# Its debug records quote what the peer wrote (ping payloads, close reasons), which may be a stream key.
logging.getLogger("trio-websocket").setLevel(logging.WARNING)


async def serve(
    config: Ingest,
    admission: Admission,
    gate: Gate,
    watching: Watching | None = None,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve publishers on ``config.bind`` until cancelled; reports its listeners once they listen.

    What *gate* refuses never gets to *admission*. Viewers are served by *watching*, if it is given.

    Port 0 takes any free one: the listeners' sockets tell which. Raises `OSError` when the address
    cannot be bound. No failure of one connection ends it. When cancelled it closes each publisher's
    channel, tells each publisher and viewer 1001, and returns within `GOODBYE_TIMEOUT`.
    """
    listeners = await trio.open_tcp_listeners(config.bind.port, host=config.bind.host)
    receiver = _Receiver(config, admission, gate, watching)
    await trio.serve_listeners(receiver.handle, listeners, task_status=task_status)


@frozen(slots=True)
class _Visitor:
    """Who has connected: *remote* as it is shown, *address* as it is counted."""

    remote: str
    address: str


class _Receiver:
    def __init__(self, config: Ingest, admission: Admission, gate: Gate, watching: Watching | None) -> None:
        self._config = config
        self._watching = watching
        self._admission = admission
        self._gate = gate
        self._handshakes = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        """One connection from the accept to the close. `trio.serve_listeners` closes *stream* at last."""
        peer = _peer(stream)
        remote = str(peer) if peer else "unknown"
        try:
            upgrade = await self._handshake(stream, remote)
        except trio.BrokenResourceError:
            log.debug("connection_reset", remote=remote)
            return
        except Exception as error:
            # As below; without the exception's text, which could quote a key that is not known yet.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.critical("connection_failed", remote=remote, traceback=where + type(error).__name__)
            return
        if upgrade is None:
            return
        client = self._gate.proxies.client(peer.host if peer else remote, upgrade.forwarded)
        if peer is not None and client != peer.host:
            remote = client  # of its port a proxy says nothing
        visitor = _Visitor(remote, client)
        if isinstance(upgrade, WatchRequest):
            await self._watch(stream, upgrade, visitor)
            return
        secrets = Secrets(upgrade.key)
        max_text = MAX_TEXT if upgrade.subprotocol else 0
        wire = Wire(stream, FrameWatch(self._config.max_message, max_text), upgrade.request)
        ending, timeout = STOPPED, GOODBYE_TIMEOUT
        try:
            ending = await self._publish(wire, upgrade, visitor, secrets)
            timeout = CLOSE_TIMEOUT
        except Exception as error:
            # A bug of ours, met by one publisher. It must not end everybody's streams, which is what
            # it would do if it went on from here; so it ends this one, and says so as loudly as it can.
            # As text, not exc_info: a renderer that shows local variables would show the key.
            ending, timeout = Ending("ingestd", 1011, "internal error"), CLOSE_TIMEOUT
            text = secrets.redact("".join(traceback.format_exception(error)))
            log.critical("connection_failed", remote=remote, traceback=text)
        finally:
            await wire.finish(ending.owed, timeout)

    async def _watch(self, stream: trio.SocketStream, asked: WatchRequest, visitor: _Visitor) -> None:
        if self._watching is None:
            await _answer(stream, UpgradeRefused(HTTPStatus.NOT_FOUND, "Nobody can watch here."))
            return
        try:
            await self._watching.serve(stream, asked, visitor.remote, visitor.address)
        except UpgradeRefused as refusal:
            await _answer(stream, refusal)
        except trio.BrokenResourceError:
            log.debug("connection_reset", remote=visitor.remote)
        except Exception as error:
            # A bug of ours, met by one viewer, as above; without the text, which could quote its token.
            where = "".join(traceback.format_tb(leaves(error)[0].__traceback__))
            text = where + type(leaves(error)[0]).__name__
            log.critical("connection_failed", remote=visitor.remote, traceback=text)

    async def _handshake(self, stream: trio.SocketStream, remote: str) -> Upgrade | WatchRequest | None:
        """Read the client's request; answer it here, and return None, if it is not to be upgraded."""
        event = "upgrade_refused"
        try:
            with self._one_handshake(), trio.move_on_after(self._config.handshake_timeout):
                return await self._read(stream)
            event = "handshake_timeout"
            refusal = UpgradeRefused(HTTPStatus.REQUEST_TIMEOUT, "The handshake took too long.")
        except UpgradeRefused as error:
            refusal = error
        page = {} if refusal.origin is None else {"origin": refusal.origin}
        log.info(event, remote=remote, status=refusal.status.value, reason=refusal.text, **page)
        await _answer(stream, refusal)
        return None

    async def _read(self, stream: trio.SocketStream) -> Upgrade | WatchRequest | None:
        if self._handshakes > MAX_HANDSHAKES:
            raise UpgradeRefused(HTTPStatus.SERVICE_UNAVAILABLE, "Too many handshakes at a time.")
        upgrade = await read_upgrade(stream)
        if isinstance(upgrade, WatchRequest):
            # What everybody may see, pages of everybody may show. But none may find, by a name of its own
            # that it makes mean this machine, what is only meant for this machine.
            if self._config.bind.is_loopback and not self._gate.pages.knows(upgrade.host):
                raise UpgradeRefused(HTTPStatus.FORBIDDEN, _STRANGE_HOST)
        elif upgrade is not None and not self._gate.pages.may_connect(upgrade.origin, upgrade.host):
            # As parsed: no text of the client's choice gets into the log.
            origin = parse_origin(upgrade.origin or "")
            raise UpgradeRefused(HTTPStatus.FORBIDDEN, _STRANGE_PAGE, origin=str(origin or "null"))
        return upgrade

    @contextmanager
    def _one_handshake(self) -> Iterator[None]:
        """Counts as one while inside: what a stranger may cost is bounded."""
        self._handshakes += 1
        try:
            yield
        finally:
            self._handshakes -= 1

    async def _publish(self, wire: Wire, upgrade: Upgrade, visitor: _Visitor, secrets: Secrets) -> Ending:
        config, remote = self._config, visitor.remote
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(
                nursery,
                wire,
                message_queue_size=1,  # what is not taken is not read: TCP holds the sender back
                max_message_size=config.max_message,
                receive_buffer_size=config.receive_buffer,
            )
            ending = Ending("network", 1006, "gone before the upgrade was answered")
            try:
                publisher = await self._admit(request, wire, upgrade, visitor, secrets)
            except ConnectionClosed:
                log.debug("connection_reset", remote=remote)
            except PublishRefused as refusal:
                # Only now: a page cannot read the status of a failed upgrade, but it can a close code.
                log.warning(
                    "publisher_refused",
                    remote=remote,
                    code=refusal.code,
                    reason=secrets.redact(refusal.reason),
                )
                ending = Ending("ingestd", refusal.code, refusal.reason)
            else:
                ending = await publisher.run()
            nursery.cancel_scope.cancel()
        return ending

    async def _admit(
        self, request: WebSocketRequest, wire: Wire, upgrade: Upgrade, visitor: _Visitor, secrets: Secrets
    ) -> Publisher:
        """Upgrade, and ask for admission. Raises `PublishRefused`, and `ConnectionClosed` if it goes."""
        connection = await request.accept(subprotocol=upgrade.subprotocol)
        if upgrade.subprotocol is None:
            key = upgrade.key or ""
            publication = await self._enter(key, visitor)
            return Publisher(self._config, connection, wire, publication, secrets)
        wire.farewell = farewell
        with self._one_handshake():
            opening = await read_open(connection, wire, secrets, self._config.handshake_timeout)
        key = _one_key(upgrade.key, opening.key)
        publication = await self._enter(key, visitor, numbered=True, resume=opening.resume)
        return ResumablePublisher(self._config, connection, wire, publication, secrets, opening)

    async def _enter(
        self, key: str, visitor: _Visitor, *, numbered: bool = False, resume: Resume | None = None
    ) -> Publication:
        """Through the gate and into a session. Raises `PublishRefused`."""
        gate = self._gate
        gate.hold_back(visitor.address)
        stream = self._admission.stream_of(key)
        named = None
        with self._one_handshake():
            if stream is not None:
                await gate.ask(stream, key, visitor.address)
            else:
                named = await gate.whose(key, visitor.address)
        try:
            return self._admission.admit(key, visitor.remote, stream=named, numbered=numbered, resume=resume)
        except PublishRefused as refusal:
            if refusal.code == REFUSED:
                gate.failed(visitor.address)
            raise


def _one_key(*keys: str | None) -> str:
    """The key of the path, of the first message, or of both."""
    given = {key for key in keys if key is not None}
    if len(given) > 1:
        raise Violation("the path and open have different keys")
    return given.pop() if given else ""


async def _answer(stream: trio.SocketStream, refusal: UpgradeRefused) -> None:
    """Send the response and wait, for a bounded time, until the client has read it and closes."""
    with trio.move_on_after(CLOSE_TIMEOUT) as scope:
        await stream.send_all(refusal.response())
        await stream.send_eof()
        while await stream.receive_some(64 * 2**10):
            pass
    if scope.cancelled_caught:
        reset_on_close(stream)


def _peer(stream: trio.SocketStream) -> Address | None:
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:  # reset between accept and here
        return None
    return Address(host=host, port=port)
