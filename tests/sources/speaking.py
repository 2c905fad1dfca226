"""A raw client of ``ingestd.v1``: says what it is told to, right or wrong."""

from __future__ import annotations

import json
import struct
from typing import Any, TypeAlias

from attrs import frozen

from ingestd.live.publication import Closing
from tests.sources.receiving import BINARY, CLOSE, KEY, PING, PONG, TEXT, Client, Receiver, frame

V1 = "ingestd.v1"
Heard: TypeAlias = dict[str, Any] | Closing


def text(kind: str, **fields: object) -> bytes:
    """The frame of a text message."""
    return raw(json.dumps({"type": kind, **fields}))


def raw(message: str | bytes) -> bytes:
    return frame(TEXT, message.encode() if isinstance(message, str) else message)


def chunk(number: int, data: bytes = b"x", recorder: int = 0) -> bytes:
    """The frame of a chunk."""
    return frame(BINARY, struct.pack("!QI", number, recorder) + data)


@frozen
class Speaker:
    """One connection with the subprotocol; pings are answered while it listens."""

    client: Client

    async def send(self, *frames: bytes) -> None:
        await self.client.send(b"".join(frames))

    async def hear(self) -> Heard:
        """The server's next message, or its close frame (which is answered)."""
        while True:
            received = await self.client.frame()
            assert received is not None, "the connection ended without a close frame"
            opcode, payload = received
            if opcode == TEXT:
                message = json.loads(payload)
                assert isinstance(message, dict)
                return message
            if opcode == CLOSE:
                await self.client.send(frame(CLOSE, payload[:2]))
                return Closing(int.from_bytes(payload[:2]), payload[2:].decode())
            if opcode == PING:
                await self.client.send(frame(PONG, payload))

    async def hear_all(self) -> tuple[list[dict[str, Any]], Closing]:
        """All messages, and the close frame after them."""
        messages: list[dict[str, Any]] = []
        while not isinstance(heard := await self.hear(), Closing):
            messages.append(heard)
        return messages, heard

    async def closing(self) -> tuple[int, str]:
        """Code and reason of the end, which ``end`` and the close frame both tell."""
        (*_, end), closing = await self.hear_all()
        assert end == {"type": "end", "code": closing.code, "reason": end["reason"]}
        assert closing.reason == end["reason"].encode()[:123].decode(errors="ignore")
        return end["code"], end["reason"]


async def speaker(r: Receiver, path: str = "/stream/live") -> Speaker:
    """A client that was upgraded, with the subprotocol, and has said nothing yet."""
    client = await r.connect()
    assert await client.upgrade(path, Sec_WebSocket_Protocol=V1) == 101
    assert b"sec-websocket-protocol: ingestd.v1" in client.head.lower()
    return Speaker(client)


async def opened(r: Receiver, *, recorder: int = 0, **fields: object) -> Speaker:
    """A client that has had its hello, and announced *recorder*."""
    client = await speaker(r)
    await client.send(text("open", key=KEY, **fields))
    hello = await client.hear()
    assert isinstance(hello, dict)
    assert hello["type"] == "hello"
    await client.send(text("recorder", number=recorder))
    return client
