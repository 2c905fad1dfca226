"""A receiver on a real socket, and what the tests of webhooks configure."""

from __future__ import annotations

import base64
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import sqlalchemy
import trio
from attrs import define, field
from standardwebhooks import Webhook as Verifier

from ingestd.config import Config, Notify, Webhook
from ingestd.events import Events
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import Database
from ingestd.registry.model import Delivery

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"t" * 32).decode()
#: For tests on the real clock.
QUICK = Notify(backoff=(0.05,))


@define
class Received:
    """One request, as the receiver saw it. *asked* is the name that TLS was asked for."""

    path: str
    headers: dict[str, str]
    body: bytes
    asked: str | None = None

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str = SECRET) -> Any:
        """The body, if the signature is right; by somebody else's implementation."""
        return Verifier(secret).verify(self.body, self.headers)


@define
class Reply:
    status: int = 204
    headers: dict[str, str] = field(factory=dict)
    #: Seconds before it.
    after: float = 0.0
    endless: bool = False


@define(eq=False)
class Receiver:
    """Answers each request as *reply* says, and keeps it."""

    reply: Callable[[Received], Reply] = lambda _request: Reply()
    requests: list[Received] = field(factory=list)
    connections: int = 0
    port: int = 0
    _asked: list[str] = field(factory=list)
    _more: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.requests]

    async def wait_for(self, count: int) -> list[Received]:
        """The requests, once there are *count*."""
        with trio.fail_after(20):
            while len(self.requests) < count:
                await self._more.park()
        return self.requests

    async def handle(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                await self._one(connection, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return

    async def _one(self, connection: h11.Connection, stream: trio.abc.Stream) -> None:
        request, body = None, b""
        while True:
            match event := connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                case h11.Request():
                    request = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    break
                case _:
                    return
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        received = Received(request.target.decode(), headers, body, self._asked[-1] if self._asked else None)
        self.requests.append(received)
        self._more.unpark_all()
        reply = self.reply(received)
        await trio.sleep(reply.after)
        head = h11.Response(
            status_code=reply.status, headers=[*reply.headers.items(), ("connection", "close")]
        )
        await stream.send_all(connection.send(head) or b"")
        while reply.endless:
            await stream.send_all(connection.send(h11.Data(data=b"x" * 4096)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")

    def asked(self, _socket: object, name: str | None, _context: object) -> None:
        self._asked.append(name or "")


@asynccontextmanager
async def receiving(receiver: Receiver, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of *receiver*, which listens on loopback, with *tls* where that is given."""

    async def handle(stream: trio.SocketStream) -> None:
        if tls is None:
            await receiver.handle(stream)
            return
        await receiver.handle(trio.SSLStream(stream, tls, server_side=True, https_compatible=True))

    if tls is not None:
        tls.sni_callback = receiver.asked
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        listener = next(each for each in listeners if len(each.socket.getsockname()) == 2)
        receiver.port = listener.socket.getsockname()[1]
        yield f"http{'s' if tls else ''}://127.0.0.1:{receiver.port}/hook"
        nursery.cancel_scope.cancel()


def secret_file(directory: Path, *secrets: str) -> str:
    """The path of a file with *secrets*, or the usual one."""
    path = directory / "secret"
    path.write_text("".join(f"{secret}\n" for secret in secrets or (SECRET,)))
    return str(path)


def webhook(directory: Path, url: str = "https://app.example.org/hook", **options: Any) -> Webhook:
    """One that may be on this machine, unless *options* say otherwise."""
    options = {"name": "app", "allow_private": True, "timeout": 5.0, **options}
    return Webhook(url=url, secret_file=secret_file(directory), **options)


def answering(*addresses: str) -> tuple[Callable[[str, int], Any], list[str]]:
    """A resolver that answers with each of *addresses* in turn (a comma: several), and what it is asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        asked.append(host)
        return addresses[min(len(asked), len(addresses)) - 1].split(",")

    return resolve, asked


def delivery(number: int = 1, *, stream: str = "cam", **changes: Any) -> Delivery:
    """The *number*-th event of *stream*, for the endpoint ``app``, created at 0."""
    body = f'{{"type":"stream.live","timestamp":"","data":{{"stream":"{stream}"}}}}'.encode()
    values: dict[str, Any] = {
        "id": f"evt_r_{number:08}.app", "endpoint": "app", "event_id": f"evt_r_{number:08}",
        "type": "stream.live", "body": body, "created": 0.0, "next_attempt": 0.0,
    }  # fmt: skip
    return Delivery(**(values | changes))


@asynccontextmanager
async def telling(
    database: Database, *webhooks: Webhook, notify: Notify = QUICK, events: Events | None = None
) -> AsyncIterator[tuple[Webhooks, Events]]:
    """Webhooks that run for the time of the block, and the events that they hear."""
    events = events or Events()
    config = Config(path=database.path or Path(), notify=notify, webhooks=webhooks)
    told = Webhooks.of(config, database, events)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.run)
        yield told, events
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def away(database: Database) -> AsyncIterator[None]:
    """Somebody else holds a lock: nothing can be written, what is there can be read."""
    if database.path is not None:
        holder = sqlite3.connect(database.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.close()
        return
    engine = sqlalchemy.create_engine(database._engine.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE deliveries IN EXCLUSIVE MODE")
        yield
    engine.dispose()


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until *condition* is true."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await trio.sleep(0.01)


async def until(told: Webhooks, state: str, count: int = 1) -> list[Delivery]:
    """The deliveries in *state*, once the database has *count* of them."""
    with trio.fail_after(20):
        while True:
            found = (await told.deliveries(state=state)).items
            if len(found) >= count:
                return list(found)
            await trio.sleep(0.02)
