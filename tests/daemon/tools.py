"""What these tests share: a live session, a start that fails, HTTP as it is, and small file systems."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.testcard import test_card_chunks as card_chunks
from tests.support import daemon as support
from tests.support.captures import capture
from tests.support.daemon import CONFIG, Daemon

#: Copying costs no CPU: where the encoder is not the point.
COPY = """
[video]
codec = "copy"
"""
ENCODE = """
[video]
codec = "h264"
size = "320x180"
preset = "ultrafast"
"""
AT_ONCE = '[publisher]\nreconnect_window = "0s"\n'
RAW = '[[sinks]]\ntype = "file"\nformat = "raw"\nname = "raw"\n'
MKV = '[[sinks]]\ntype = "file"\nformat = "mkv"\nname = "mkv"\n'
MP4 = '[[sinks]]\ntype = "file"\nformat = "mp4"\nname = "mp4"\n'
HLS = '[[sinks]]\ntype = "hls"\nname = "hls"\nwindow = 0\n'

CAPTURE = "cv-vp8-250.webm"
SLICE = 0.25


def browser_chunks() -> list[bytes]:
    """What a browser sent: VP8 and Opus."""
    return capture(CAPTURE).chunks()


async def card(ffmpeg: str, seconds: float) -> list[bytes]:
    """A numbered test card, one chunk every `SLICE` seconds."""
    chunks = card_chunks(ffmpeg, seconds=seconds, timeslice=SLICE, realtime=False)
    return [chunk async for chunk in chunks]


@asynccontextmanager
async def connect(running: Daemon, key: str = "cam-key") -> AsyncIterator[WebSocketConnection]:
    """A publisher that sends nothing of itself. Leaving the block closes with 1000 if it is still open."""
    async with support.connect(f"ws://{running.ingest}/stream/live/{key}") as socket:
        yield socket


@asynccontextmanager
async def live(
    running: Daemon, chunks: list[bytes], *, key: str = "cam-key"
) -> AsyncIterator[WebSocketConnection]:
    """A publisher that sends *chunks* in real time and then stays, for the time of the block."""

    async def send(socket: WebSocketConnection) -> None:
        start = trio.current_time()
        try:
            for number, chunk in enumerate(chunks):
                await trio.sleep_until(start + number * SLICE)
                await socket.send_message(chunk)
        except ConnectionClosed:
            return

    async with connect(running, key) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(send, socket)
        yield socket
        nursery.cancel_scope.cancel()


async def closed_with(socket: WebSocketConnection, within: float = 30.0) -> tuple[int, str]:
    """Wait until the server has closed, and return with which code and reason."""
    with trio.fail_after(within):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed as closed:
            return closed.reason.code, closed.reason.reason or ""


def all_running(status: dict[str, Any]) -> bool:
    return bool(status["sinks"]) and all(sink["state"] == "running" for sink in status["sinks"])


async def wait_exit(process: subprocess.Popen[bytes], within: float) -> int:
    """The exit code of *process*, which must come within *within* seconds."""
    return await trio.to_thread.run_sync(process.wait, within)


def request(
    address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, HTTPMessage, bytes]:
    """Status, headers and body of one HTTP request; *path* goes out as it is."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.msg, response.read()
    finally:
        connection.close()


def run_to_end(
    directory: Path, pipeline: str, config: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``ingestd run`` of a configuration that it cannot start with."""
    (directory / "pipelines").mkdir(parents=True, exist_ok=True)
    (directory / "pipelines" / "test.toml").write_text(pipeline)
    toml = directory / "ingestd.toml"
    toml.write_text(CONFIG.format(extra=config) if "[ingest]" not in config else config)
    return subprocess.run(
        [sys.executable, "-m", "ingestd", "run", "--config", str(toml)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(env or {})},
    )


@contextmanager
def small_disk(directory: Path, size: str, *options: str) -> Iterator[Path]:
    """A file system of *size* at *directory*; fails, with the reason, where none may be mounted."""
    directory.mkdir(parents=True)
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    chosen = ",".join([f"size={size}", f"uid={os.geteuid()}", *options])
    mounted = subprocess.run(
        [*sudo, "mount", "-t", "tmpfs", "-o", chosen, "tmpfs", str(directory)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise AssertionError(
            f"this test mounts a small file system, which needs root: {mounted.stderr.strip()}"
        )
    try:
        yield directory
    finally:
        subprocess.run([*sudo, "umount", "-l", str(directory)], check=True)


def freeze(pids: dict[int, str]) -> None:
    """SIGSTOP all of *pids*."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


async def wait_event(running: Daemon, name: str, within: float = 20.0) -> dict[str, Any]:
    """The first event *name* in the log."""
    with trio.fail_after(within):
        while not (found := running.events(name)):  # noqa: ASYNC110  a file cannot be waited for
            await trio.sleep(0.02)
    return found[0]


def lines(log: Path) -> list[dict[str, Any]]:
    """Each line of the log as JSON; fails for a line that is none."""
    return [json.loads(line) for line in log.read_text().splitlines()]
