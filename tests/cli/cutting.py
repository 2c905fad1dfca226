"""A way to a server whose connections break in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define, field


@define(eq=False)
class Cutting:
    """Forwards connections to *target*; the first ones end after as many bytes of answers as *cuts* says."""

    target: tuple[str, int]
    cuts: list[int]
    connections: int = 0
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """One connection after the other, until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                left = self.cuts[self.connections] if self.connections < len(self.cuts) else None
                self.connections += 1
                threading.Thread(target=self._forward, args=(client, left), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forward(self, client: socket.socket, left: int | None) -> None:
        with client, socket.create_connection(self.target) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            with suppress(OSError):
                while data := server.recv(16_384):
                    client.sendall(data if left is None else data[:left])
                    if left is not None:
                        left -= len(data)
                        if left <= 0:
                            break
                client.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(16_384):
            sink.sendall(data)


@contextmanager
def cutting(address: str, *cuts: int) -> Iterator[Cutting]:
    """To the daemon at *address* (``HOST:PORT``)."""
    host, _, port = address.rpartition(":")
    between = Cutting((host, int(port)), list(cuts))
    thread = threading.Thread(target=between.serve, daemon=True)
    thread.start()
    try:
        yield between
    finally:
        between.close()
        thread.join(10)
