"""The real daemon as a subprocess, on free loopback ports, in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

START_TIMEOUT = 20.0
STOP_TIMEOUT = 40.0

CONFIG = """
[ingest]
bind = "127.0.0.1:0"
[control]
bind = "127.0.0.1:0"
[log]
level = "debug"
format = "json"
[journal]
min_free = "1MiB"
{extra}
[streams.cam]
key = "cam-key"
pipeline = "test"
"""


@define(eq=False)
class Daemon:
    """A running daemon with one stream ``cam`` (key ``cam-key``) on the pipeline ``test``."""

    directory: Path
    process: subprocess.Popen[bytes]
    ingest: str
    control: str
    log: Path
    exit_code: int | None = field(default=None)
    _program: Sequence[str] = ("-m", "ingestd")
    _env: Mapping[str, str] = field(factory=dict)

    @property
    def publish_url(self) -> str:
        return f"ws://{self.ingest}/stream/live/cam-key"

    @property
    def state_dir(self) -> Path:
        return self.directory / "var"

    @property
    def recordings(self) -> list[Path]:
        return sorted((self.state_dir / "recordings" / "cam").glob("*"))

    @property
    def playlist(self) -> Path:
        return self.state_dir / "hls" / "cam" / "index.m3u8"

    @property
    def playlist_url(self) -> str:
        return f"http://{self.control}/hls/cam/index.m3u8"

    def status(self) -> dict[str, Any]:
        """What ``GET /v1/streams/cam`` says."""
        with urllib.request.urlopen(f"http://{self.control}/v1/streams/cam", timeout=5) as response:
            status: dict[str, Any] = json.load(response)
        return status

    def sink(self, name: str) -> dict[str, Any]:
        """The status of one sink; empty before the session has it."""
        return next((s for s in self.status()["sinks"] if s["name"] == name), {})

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log's events so far, or those called *name*."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if name is None or line.get("event") == name]

    def wait_event(self, name: str, within: float = 30.0) -> dict[str, Any]:
        """Wait until the log has an event called *name*, and return the first."""
        deadline = time.monotonic() + within
        while not (found := self.events(name)):
            assert time.monotonic() < deadline, f"no {name} within {within} s; log:\n{self.log.read_text()}"
            time.sleep(0.05)
        return found[0]

    async def wait_until(self, condition: Any, within: float = 30.0) -> dict[str, Any]:
        """Poll `status` until *condition* of it is true; returns that status."""
        status: dict[str, Any] = {}
        with trio.move_on_after(within):
            while True:
                status = await trio.to_thread.run_sync(self.status)
                if condition(status):
                    return status
                await trio.sleep(0.05)
        raise AssertionError(f"not within {within} s; last status: {json.dumps(status, indent=1)}")

    async def wait_ended(self, within: float = 40.0) -> dict[str, Any]:
        """Wait until the session has ended, or failed."""
        return await self.wait_until(lambda s: s["state"] in ("ended", "failed"), within)

    def stop(self) -> int:
        """SIGTERM, and the exit code; kills it and fails if it does not end."""
        if self.exit_code is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.exit_code = self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the daemon did not stop; log:\n{self.log.read_text()}") from None
        return self.exit_code

    def kill(self) -> None:
        """SIGKILL of the daemon alone: its children have to look after themselves."""
        self.process.kill()
        self.exit_code = self.process.wait()

    def start_again(self) -> None:
        """Begin another life in the same place, on the same ports, with a log of its own.

        What is told of it (addresses, status) holds after `wait_ready`.
        """
        toml = self.directory / "ingestd.toml"
        text = toml.read_text()
        for address in (self.ingest, self.control):
            host, _, port = address.rpartition(":")
            text = text.replace(f'bind = "{host}:0"', f'bind = "{host}:{port}"', 1)
        toml.write_text(text)
        self.process, self.log = _spawn(self.directory, self._program, self._env)
        self.exit_code = None

    def wait_ready(self) -> None:
        """Wait until it takes publishers; fails if it does not come to that."""
        ready = _wait_ready(self.process, self.log)
        self.ingest, self.control = ready["ingest"][0], ready["control"][0]


@contextmanager
def daemon(
    directory: Path,
    pipeline: str,
    *,
    config: str = "",
    env: dict[str, str] | None = None,
    ingest: str = 'bind = "127.0.0.1:0"',
    control: str = "",
    program: Sequence[str] = ("-m", "ingestd"),
) -> Iterator[Daemon]:
    """Run a daemon in *directory* with *pipeline* (TOML) and *config* (more TOML); stop it at the end.

    *ingest* is the section of that name (TOML), *control* what that one has beside its address. *program* is
    what Python runs: a module that starts ingestd in its own way.
    """
    (directory / "pipelines").mkdir(parents=True, exist_ok=True)
    (directory / "pipelines" / "test.toml").write_text(pipeline)
    toml = directory / "ingestd.toml"
    text = CONFIG.format(extra=config).replace('bind = "127.0.0.1:0"', ingest, 1)
    toml.write_text(text.replace("[log]", f"{control}\n[log]", 1))
    process, log = _spawn(directory, program, env or {})
    made = Daemon(directory, process, "", "", log, None, program, env or {})
    try:
        made.wait_ready()
        yield made
        made.stop()
    finally:
        if made.process.poll() is None:
            made.kill()


def _spawn(
    directory: Path, program: Sequence[str], env: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Path]:
    # A second daemon in the same directory has a log of its own.
    log = directory / f"log-{len(list(directory.glob('log-*.jsonl'))) + 1}.jsonl"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *program, "run", "--config", str(directory / "ingestd.toml")],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **env},
        )
    return process, log


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        for line in reversed(log.read_text().splitlines()):
            if '"daemon_ready"' in line:
                event: dict[str, Any] = json.loads(line)
                return event
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the daemon did not start; log:\n{log.read_text()}")


async def publish(
    url: str, chunks: Sequence[bytes], *, at: Sequence[float] | None = None, linger: float = 0.0
) -> tuple[int | None, str | None]:
    """Send *chunks* as messages at the seconds *at* (default: as fast as they are taken), then close.

    Returns the close code and reason that the connection ended with.
    """
    async with connect(url) as socket:
        try:
            await _send(socket, chunks, at)
            await trio.sleep(linger)
        except ConnectionClosed:
            pass
    reason = socket.closed
    return (reason.code, reason.reason) if reason else (None, None)


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[WebSocketConnection]:
    """A publisher that sends nothing of itself. Leaving the block closes with 1000 if it is still open."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    # The stream is ours, so that it is closed whoever closes the WebSocket first.
    async with (
        await trio.open_tcp_stream(parts.hostname, parts.port) as stream,
        trio.open_nursery() as nursery,
    ):
        socket = await wrap_client_stream(nursery, stream, parts.netloc, parts.path, max_message_size=2**26)
        yield socket
        with trio.move_on_after(5):
            await socket.aclose()
        nursery.cancel_scope.cancel()


async def _send(socket: WebSocketConnection, chunks: Sequence[bytes], at: Sequence[float] | None) -> None:
    start = trio.current_time()
    for number, chunk in enumerate(chunks):
        if at is not None:
            await trio.sleep_until(start + at[number])
        await socket.send_message(chunk)
