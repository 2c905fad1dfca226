"""A receiver with a fake admission, and a raw WebSocket client that can misbehave in every way."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, evolve, field

from ingestd.address import Address
from ingestd.auth.gate import Gate
from ingestd.auth.pages import Pages
from ingestd.auth.proxies import Proxies
from ingestd.auth.rates import Rates
from ingestd.config import Ingest
from ingestd.errors import PublishRefused
from ingestd.live.publication import Accepted, Chunk, Item, Notice, Publication, Resume
from ingestd.sources.websocket import serve

KEY = "Sk_secret-0123456789"
BINARY, TEXT, CLOSE, PING, PONG = 0x2, 0x1, 0x8, 0x9, 0xA
TOKEN = "Tk_secret-9876543210"
ACCEPTED = Accepted("S1", next=0, resumed=False, window=60.0, token=TOKEN)
QUIET = Ingest(bind=Address(host="127.0.0.1", port=0), ping_interval=60, ping_timeout=60)


@define
class Door:
    """The fake admission: one stream, "demo", whose chunks the test reads (or lets pile up).

    A publication that numbers its chunks is accepted as *accepts* says; with None, when the test does it.
    """

    capacity: int = 16
    accepts: Accepted | None = ACCEPTED
    resumes: list[Resume | None] = field(factory=list)
    publications: list[Publication] = field(factory=list)
    channels: list[trio.MemoryReceiveChannel[Item]] = field(factory=list)
    refusal: PublishRefused | None = None
    on_admit: Callable[[str], None] = lambda key: None
    asked: int = 0

    def stream_of(self, key: str) -> str | None:
        return "demo" if key == KEY else None

    def admit(
        self,
        key: str,
        remote: str,
        *,
        stream: str | None = None,
        numbered: bool = False,
        resume: Resume | None = None,
    ) -> Publication:
        self.asked += 1
        self.on_admit(key)
        if self.refusal is not None:
            raise self.refusal
        if key != KEY and stream != "demo":
            raise PublishRefused(4401, "unknown stream key")
        send, receive = trio.open_memory_channel[Item](self.capacity)
        self.channels.append(receive)
        self.publications.append(Publication("demo", remote, send))
        if numbered:
            self.resumes.append(resume)
            if self.accepts is not None:
                self.accept(self.accepts)
        return self.publications[-1]

    def accept(self, accepted: Accepted) -> None:
        self.publications[-1].accept(accepted)

    def acknowledge(self, following: int) -> None:
        self.publications[-1].acknowledge(following)

    def tell(self, kind: str, **fields: object) -> None:
        self.publications[-1].tell(Notice(kind, fields))

    @property
    def chunks(self) -> trio.MemoryReceiveChannel[Item]:
        return self.channels[-1]

    async def receive(self) -> bytes:
        """The next chunk of the last publication."""
        item = await self.chunks.receive()
        assert isinstance(item, Chunk)
        return item.data

    async def all_chunks(self) -> list[bytes]:
        """Every chunk of the last publication, until its channel is closed."""
        return [item.data for item in await self.all_items() if isinstance(item, Chunk)]

    async def all_items(self) -> list[Item]:
        """The same, with what else there is."""
        return [item async for item in self.chunks]


@define
class Receiver:
    port: int
    door: Door
    scope: trio.CancelScope
    clients: list[Client] = field(factory=list)

    async def connect(self) -> Client:
        sock = trio.socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        self.clients.append(Client(trio.SocketStream(sock)))
        return self.clients[-1]

    async def publisher(self, path: str = f"/stream/live/{KEY}") -> Client:
        """A client that the receiver has upgraded, and asked the door about."""
        client = await self.connect()
        asked = self.door.asked
        assert await client.upgrade(path) == 101
        while self.door.asked == asked:  # noqa: ASYNC110  across a real socket, and within a millisecond
            await trio.sleep(0.001)
        return client


@asynccontextmanager
async def receiver(
    door: Door | None = None, gate: Gate | None = None, **options: object
) -> AsyncIterator[Receiver]:
    """Serve with `QUIET` settings, changed by *options*; the receiver must end promptly when cancelled."""
    door = door or Door()
    gate = gate or Gate(Pages.of(QUIET.bind, "", ()), Proxies(), Rates((0, 0.0), (0, 0.0)))
    config = evolve(QUIET, **options)  # type: ignore[arg-type]
    scope = trio.CancelScope()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
                with scope:
                    await serve(config, door, gate, task_status=task_status)

            listeners = await nursery.start(run)
            served = Receiver(listeners[0].socket.getsockname()[1], door, scope)
            try:
                yield served
            finally:
                scope.cancel()
                for client in served.clients:
                    client.stream.socket.close()
                for channel in door.channels:
                    channel.close()


def request(path: str, **changes: str | None) -> bytes:
    """A valid opening handshake; ``changes`` set, or with None drop, a header (underscores for dashes)."""
    headers: dict[str, str | None] = {
        "Host": "example.org",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A client's frame, masked with a key that changes every octet."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + struct.pack("!H", size) if size <= 0xFFFF else b"\x7f" + struct.pack("!Q", size)
    head = bytes([opcode | 0x80 * fin]) + bytes([length[0] | 0x80 * mask]) + length[1:]
    if not mask:
        return head + payload
    table = bytes(range(256))
    key = b"\x11\x22\x33\x44"
    masked = bytearray(payload)
    for i in range(4):
        masked[i::4] = masked[i::4].translate(bytes(b ^ key[i] for b in table))
    return head + key + bytes(masked)


class Client:
    """A raw client: sends what it is told, answers nothing by itself."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.head = b""
        self._buffer = bytearray()
        self._sending = trio.Lock()

    async def send(self, data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(data)

    async def upgrade(self, path: str = f"/stream/live/{KEY}", **changes: str | None) -> int:
        await self.send(request(path, **changes))
        return await self.status()

    async def status(self) -> int:
        """Read the HTTP response's head (kept in *head*) and return its status."""
        while b"\r\n\r\n" not in self._buffer:
            assert await self._more(), "closed without a response"
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self.head, self._buffer = head, bytearray(rest)
        return int(head.split()[1])

    async def body(self) -> str:
        while await self._more():
            pass
        return self._buffer.decode()

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self._buffer += data
        return bool(data)

    async def frame(self) -> tuple[int, bytes] | None:
        """The server's next frame, or None at the end of the stream."""
        if not await self._fill(2):
            return None
        begin, size = 2, self._buffer[1]
        if size >= 126:
            begin = 4 if size == 126 else 10
            await self._fill(begin)
            size = int.from_bytes(self._buffer[2:begin])
        if not await self._fill(begin + size):
            return None
        opcode, payload = self._buffer[0] & 0x0F, bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size]
        return opcode, payload

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            if not await self._more():
                return False
        return True

    async def close_code(self, *, reply: bool = True) -> tuple[int, str]:
        """Skip to the server's close frame and return its code and reason; answer it as a browser does."""
        while True:
            received = await self.frame()
            assert received is not None, "the connection ended without a close frame"
            opcode, payload = received
            if opcode == CLOSE:
                if reply:
                    await self.send(frame(CLOSE, payload[:2]))
                return int.from_bytes(payload[:2]), payload[2:].decode()

    async def end(self) -> str:
        """How TCP ends: "closed" or "reset"."""
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            return "reset"
        return "closed"

    def reset(self) -> None:
        """Abort the connection at once."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()
