"""The control listener on a real socket with a configuration of its own, and real servers that it asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import h11
import httpx
import trio
from attrs import define, field
from quart_trio import QuartTrio

from ingestd.auth.authority import Authority, open_authority
from ingestd.auth.tokens import TokenLine, digest_of, new_token
from ingestd.config import Config
from ingestd.config_file import load
from ingestd.control import server
from ingestd.control.app import create_app
from ingestd.control.links import Links
from ingestd.live.audience import Audience
from ingestd.live.journal import JournalWriter
from ingestd.live.lag import LoopLag
from ingestd.live.streams import Streams
from ingestd.log_ring import LogRing
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.registry import Registry
from ingestd.sinks import SINKS

BASE = """
[ingest]
bind = "127.0.0.1:0"
[streams.cam]
key = "cam-key"
pipeline = "hls"
"""
TOKENS = '[auth]\ntokens_file = "tokens"\n'


@define
class Listener:
    """A listener that serves *config*, and a client of it that keeps no cookies unless told."""

    config: Config
    authority: Authority
    client: httpx.AsyncClient
    address: str
    app: QuartTrio

    async def ask(
        self, method: str, path: str, token: str | None = None, json: Any = None, **headers: str
    ) -> httpx.Response:
        """One request; in the names of *headers*, underscores are dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["Authorization"] = f"Bearer {token}"
        self.client.cookies.clear()
        return await self.client.request(method, path, headers=named, json=json)


def write(directory: Path, toml: str) -> Config:
    """The configuration *toml* with one stream, ``cam``, and its files."""
    (directory / "pipelines").mkdir(exist_ok=True)
    (directory / "pipelines" / "hls.toml").write_text('[[sinks]]\ntype = "hls"\n')
    path = directory / "ingestd.toml"
    if "[control]" not in toml:
        toml = '[control]\nbind = "127.0.0.1:0"\n' + toml
    path.write_text(toml + BASE)
    return load(path, SINKS)


def give(directory: Path, name: str, *scopes: Any, expires: float | None = None) -> str:
    """A token called *name*, added to the directory's file of tokens."""
    token = new_token()
    line = TokenLine(name, frozenset(scopes), digest_of(token), expires)
    with (directory / "tokens").open("a") as file:
        file.write(f"{line}\n")
    return token


@asynccontextmanager
async def listener(
    directory: Path, toml: str = "", routes: Callable[[QuartTrio], None] = lambda app: None
) -> AsyncIterator[Listener]:
    """Serve the control API of *toml*, and *routes*, without a daemon around it."""
    config = write(directory, toml)
    with trio.fail_after(60):
        config.storage.state_dir.mkdir(exist_ok=True)
        registry = Registry.of(config)
        await registry.open()
        life = registry.directory.life
        async with open_authority(config, life) as authority, trio.open_nursery() as nursery:
            streams = Streams(config, registry.directory, "ffmpeg", cast(JournalWriter, None), nursery)
            ending, told = trio.Event(), Webhooks.of(config, registry.database, streams.events)
            audience = Audience(config.viewers, streams)
            app = create_app(
                streams, audience, registry, LogRing(10), LoopLag(), authority, Links(config), ending, told
            )
            routes(app)
            listeners = await nursery.start(server.serve, app, config.control.bind, ending)
            host, port = listeners[0].socket.getsockname()[:2]
            async with httpx.AsyncClient(
                base_url=f"http://{host}:{port}", trust_env=False, timeout=20
            ) as client:
                yield Listener(config, authority, client, f"{host}:{port}", app)
            await registry.close(1)
            nursery.cancel_scope.cancel()


Answer = tuple[int, dict[str, str], bytes]


@define
class Server:
    """A small HTTP server; *answer* says what a path and a body get, and may wait."""

    answer: Callable[[str, bytes], Any]
    port: int = 0
    asked: list[tuple[str, bytes]] = field(factory=list)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def questions(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.asked]

    async def handle(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        path, body = "", b""
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                elif isinstance(event, h11.Request):
                    path = event.target.decode()
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            self.asked.append((path, body))
            status, headers, content = await self.answer(path, body)
            head = {"Content-Length": str(len(content)), "Connection": "close", **headers}
            response = h11.Response(status_code=status, headers=list(head.items()))
            await stream.send_all(connection.send(response) or b"")
            await stream.send_all((connection.send(h11.Data(data=content)) or b"") if content else b"")
            await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        except (trio.BrokenResourceError, h11.LocalProtocolError):
            return


@asynccontextmanager
async def http_server(answer: Callable[[str, bytes], Any]) -> AsyncIterator[Server]:
    """Answer on a free loopback port."""
    made = Server(answer)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_serve, made.handle)
        made.port = listeners[0].socket.getsockname()[1]
        try:
            yield made
        finally:
            nursery.cancel_scope.cancel()


async def _serve(
    handle: Any, *, task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED
) -> None:
    await trio.serve_tcp(handle, 0, host="127.0.0.1", task_status=task_status)
