"""A server of ``ingestd.v1`` that says what a test tells it to, right or wrong, one connection at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from tests.client.ledger import Ledger

V1 = "ingestd.v1"
LIMITS = {
    "max_message": 2**24, "max_text": 16384, "window": 60.0, "ack": "written", "ping_interval": 10.0,
    "ping_timeout": 10.0,
}  # fmt: skip


@define(eq=False)
class Peer:
    """One client's connection; *opening* is its first message."""

    socket: WebSocketConnection
    path: str
    opening: dict[str, Any] = field(factory=dict)

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send_message(json.dumps({"type": kind, **fields}))

    async def raw(self, message: str | bytes) -> None:
        await self.socket.send_message(message)

    async def hello(self, **changes: object) -> None:
        fields: dict[str, object] = {
            "stream": "demo", "session": "S1", "token": "T1", "next": 0, "recorder": None, "resumed": False,
            "limits": LIMITS,
        }  # fmt: skip
        await self.say("hello", **(fields | changes))

    async def welcome(self, ledger: Ledger, **changes: object) -> None:
        """The hello that *ledger* is in the state for."""
        told = ledger.connect()
        await self.hello(next=told["following"], recorder=told["recorder"], **changes)

    async def take(self, ledger: Ledger, chunks: int | None = None, *, ack: bool = True) -> None:
        """What the client sends into *ledger*: so many chunks, or until it says end."""
        until = None if chunks is None else len(ledger.taken) + chunks
        while not ledger.ended and (until is None or len(ledger.taken) < until):
            message = await self.socket.get_message()
            if isinstance(message, str) and json.loads(message)["type"] == "stats":
                continue
            ledger.take(message)
            if ack:
                await self.say("ack", next=ledger.next)

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.aclose(code, reason or None)


Talk: TypeAlias = Callable[[Peer], Awaitable[None]]


@define(eq=False)
class Fake:
    """*url* is where it serves; *peers* are the connections so far."""

    url: str
    peers: list[Peer] = field(factory=list)

    @property
    def openings(self) -> list[dict[str, Any]]:
        return [peer.opening for peer in self.peers]


@asynccontextmanager
async def fake(*talks: Talk, subprotocol: str | None = V1) -> AsyncIterator[Fake]:
    """Serve the first connection by the first of *talks* and so on; those after the last by the last."""

    async def handle(request: WebSocketRequest) -> None:
        talk = talks[min(len(made.peers), len(talks) - 1)]
        peer = Peer(await request.accept(subprotocol=subprotocol), request.path)
        made.peers.append(peer)
        with suppress(ConnectionClosed):
            if subprotocol is not None:
                peer.opening = json.loads(await peer.socket.get_message())
            await talk(peer)
            while True:
                await peer.socket.get_message()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", 0, None))
        made = Fake(f"ws://127.0.0.1:{server.port}/stream/live")
        yield made
        nursery.cancel_scope.cancel()
