"""A network of two: this host and a namespace, joined by a cable that can swallow everything.

Needs root. A black hole is made of two wrong neighbour entries: each side sends to an Ethernet address that
nobody has, so that packets are sent, and lost, and no side is told. It needs no module of the kernel's.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.support.packages import program

_NOBODY = "02:00:00:00:00:99"
_CLONE_NEWNET = 0x40000000  # linux/sched.h


@frozen(slots=True)
class Network:
    """*here* is this host's address, *there* the namespace's."""

    namespace: str
    here: str
    there: str

    @property
    def _cable(self) -> tuple[str, str]:
        return f"{self.namespace}h", f"{self.namespace}n"

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        """Lose every packet, both ways, for the time of the block."""
        host, inside = self._cable
        dead = ("lladdr", _NOBODY, "nud", "permanent")
        _ip("neigh", "replace", self.there, "dev", host, *dead)
        _ip("-n", self.namespace, "neigh", "replace", self.here, "dev", inside, *dead)
        try:
            yield
        finally:
            _ip("neigh", "del", self.there, "dev", host)
            _ip("-n", self.namespace, "neigh", "del", self.here, "dev", inside)

    def connect(self, port: int) -> socket.socket:
        """A connection from within the namespace to *port* of this host. Blocks: call it in a thread."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open("rb") as ours,
            Path("/run/netns", self.namespace).open("rb") as other,
        ):
            _enter(libc, other.fileno())
            try:
                return socket.create_connection((self.here, port), timeout=10)
            finally:
                _enter(libc, ours.fileno())


@contextmanager
def network() -> Iterator[Network]:
    """Lay the cable, and take it away at the end; raises AssertionError where none may be laid."""
    number = os.getpid() % 16000
    subnet = f"10.213.{number // 64}"
    first = number % 64 * 4 + 1
    made = Network(f"chaos{number}", f"{subnet}.{first}", f"{subnet}.{first + 1}")
    host, inside = made._cable
    _ip("netns", "add", made.namespace)
    try:
        _ip("link", "add", host, "type", "veth", "peer", "name", inside, "netns", made.namespace)
        _ip("addr", "add", f"{made.here}/30", "dev", host)
        _ip("-n", made.namespace, "addr", "add", f"{made.there}/30", "dev", inside)
        _ip("link", "set", host, "up")
        _ip("-n", made.namespace, "link", "set", inside, "up")
        yield made
    finally:
        for args in (("link", "del", host), ("netns", "del", made.namespace)):
            subprocess.run([program("ip"), *args], capture_output=True, check=False)


def _ip(*args: str) -> None:
    done = subprocess.run([program("ip"), *args], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(args)}: {done.stderr.strip()} (this scenario needs root)")


def _enter(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
