"""A viewer of a real daemon: a WebSocket that keeps what it is told and what it is to play."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from tests.sources.receiving import BINARY, CLOSE, PING, TEXT, Client, frame
from tests.support.packages import program


@define
class Part:
    """What one init segment is for: the message before it, itself, and its media segments."""

    told: dict[str, Any]
    segment: bytes = b""
    media: list[bytes] = field(factory=list)

    @property
    def data(self) -> bytes:
        return self.segment + b"".join(self.media)


@define(eq=False)
class Watcher:
    """`run` reads until the end; *closed* is the close code and reason then, None if there was none."""

    client: Client
    told: list[dict[str, Any]] = field(factory=list)
    parts: list[Part] = field(factory=list)
    closed: tuple[int, str] | None = None
    ended: bool = False
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def run(self) -> None:
        """Read, and answer pings and the close frame as a browser does."""
        try:
            while (received := await self.client.frame()) is not None:
                opcode, payload = received
                if opcode == TEXT:
                    message = json.loads(payload)
                    self.told.append(message)
                    if message["type"] == "init":
                        self.parts.append(Part(message))
                elif opcode == BINARY and not self.parts[-1].segment:
                    self.parts[-1].segment = payload
                elif opcode == BINARY:
                    self.parts[-1].media.append(payload)
                elif opcode == PING:
                    await self.client.send(frame(0xA, payload))
                elif opcode == CLOSE:
                    self.closed = int.from_bytes(payload[:2]), payload[2:].decode()
                    await self.client.send(frame(CLOSE, payload[:2]))
                self._changed.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.ended = True
        self._changed.unpark_all()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What it was told of type *kind*."""
        return [message for message in self.told if message["type"] == kind]

    @property
    def media(self) -> int:
        """How many media segments have come."""
        return sum(len(part.media) for part in self.parts)

    async def until(self, condition: Any, within: float = 20.0) -> None:
        """Wait until *condition* of this is true."""
        with trio.move_on_after(within):
            while not condition(self):
                await self._changed.park()
            return
        raise AssertionError(f"not within {within} s; told: {self.told}, closed: {self.closed}")

    async def until_told(self, kind: str, count: int = 1, within: float = 20.0) -> dict[str, Any]:
        """The message of type *kind* that is the *count*-th."""
        await self.until(lambda watcher: len(watcher.of(kind)) >= count, within)
        return self.of(kind)[count - 1]

    async def until_closed(self, within: float = 20.0) -> tuple[int, str] | None:
        await self.until(lambda watcher: watcher.ended, within)
        return self.closed


async def connected(address: str, *, buffer: int = 0, source: str = "127.0.0.1") -> Client:
    """A raw connection from *source*, whose kernel takes about *buffer* bytes that are not read."""
    host, _, port = address.rpartition(":")
    sock = trio.socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    await sock.bind((source, 0))
    await sock.connect((host, int(port)))
    return Client(trio.SocketStream(sock))


@asynccontextmanager
async def watching(
    address: str, stream: str = "cam", *, query: str = "", buffer: int = 0, **headers: str | None
) -> AsyncIterator[Watcher]:
    """A viewer of *stream* at the ingest listener *address* that reads, for the time of the block."""
    headers = {"Host": address, **headers}
    client = await connected(address, buffer=buffer)
    async with client.stream, trio.open_nursery() as nursery:
        assert await client.upgrade(f"/stream/watch/{stream}{query}", **headers) == 101, await client.body()
        watcher = Watcher(client)
        nursery.start_soon(watcher.run)
        yield watcher
        nursery.cancel_scope.cancel()


def decoded(path: Path, data: bytes) -> tuple[int, str]:
    """How many pictures FFmpeg decodes of *data*, kept in *path*, and its complaints."""
    path.write_bytes(data)
    argv = [program("ffmpeg"), "-v", "warning", "-i", str(path), "-map", "0:v", "-fps_mode", "passthrough"]
    done = subprocess.run([*argv, "-f", "framemd5", "-"], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    return len(lines), done.stderr
