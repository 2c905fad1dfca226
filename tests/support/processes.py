"""Ports and child processes: free loopback ports, waiting for one to listen, and who is left behind."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LeftBehindError(AssertionError):
    """Child processes were still there (running, or dead and not reaped) when they all should have gone."""


def free_port() -> int:
    """A TCP port that nobody listens on at 127.0.0.1, outside the range that outgoing connections use."""
    for _ in range(200):
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port on 127.0.0.1 between 15000 and 32000")


def free_ports(count: int) -> list[int]:
    """*count* different free ports."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


def wait_listening(port: int, timeout: float = 20.0) -> None:
    """Block until something accepts at 127.0.0.1:*port*; fails after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing listens on 127.0.0.1:{port} after {timeout:g} s") from None
            time.sleep(0.02)
        else:
            return


def alive(pid: int) -> bool:
    """Whether process *pid* still runs: an unreaped one does not, whose child it may be."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int | None = None) -> dict[int, str]:
    """Every living or unreaped descendant of *pid* (default: this process): pid → command line and state."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(stat.parent.name)] = int(fields[1])
    wanted = {pid or os.getpid()}
    while more := {child for child, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return {child: _describe(child) for child in wanted - {pid or os.getpid()}}


@contextmanager
def nothing_left_behind(grace: float = 5.0) -> Iterator[None]:
    """Fail with LeftBehindError if a new descendant process is left *grace* seconds after the block."""
    before = set(descendants())
    yield
    deadline = time.monotonic() + grace
    while new := {pid: what for pid, what in descendants().items() if pid not in before}:
        if time.monotonic() > deadline:
            listed = "\n".join(f"  {pid} {what}" for pid, what in new.items())
            raise LeftBehindError(f"processes left behind:\n{listed}")
        time.sleep(0.05)


def _describe(pid: int) -> str:
    try:
        command = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "(gone)"
    return f"[{state}] {command or '(no command line)'}"[:200]
