"""The publisher and the real daemon while everything between them, and the daemon, dies."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, wrap_client_stream

from ingestd.client import Buffer, Dropped, Event, Lost, Published, Publisher
from ingestd.testcard import test_card_chunks as card_chunks
from tests.client.ledger import frames_of
from tests.daemon.tools import COPY, MKV, RAW
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, decode_errors, read_video
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program
from tests.support.processes import free_port
from tests.support.proxy import proxy

pytestmark = pytest.mark.usefixtures("no_processes_left")

PIPELINE = COPY + RAW + MKV
KEY = "cam-key"
LIVELY = {"ping_interval": 0.3, "ping_timeout": 0.6}


@pytest.fixture(scope="module")
def card() -> list[bytes]:
    """A numbered test card of 15 s from one recorder, a keyframe every second."""

    async def draw() -> list[bytes]:
        drawn = card_chunks(program("ffmpeg"), seconds=15, keyframe_every=30, realtime=False)
        return [chunk async for chunk in drawn]

    return trio.run(draw)


def material(times: int = 1, name: str = "cv-vp8-250.webm") -> list[bytes]:
    """A capture's chunks, so many times: each is a recorder of its own."""
    return capture(name).chunks() * times


async def paced(chunks: list[bytes], every: float) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk
        await trio.sleep(every)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def raw(running: Daemon) -> bytes:
    """What the raw recording has, over all recorders (and sessions)."""
    return b"".join(path.read_bytes() for path in running.recordings if path.suffix == ".webm")


@define(eq=False)
class Run:
    """A publication that runs; *result* when it has ended."""

    publisher: Publisher
    events: list[Event] = field(factory=list)
    over: trio.Event = field(factory=trio.Event)
    result: Published | None = None

    async def end(self, within: float = 60.0) -> Published:
        with trio.fail_after(within):
            await self.over.wait()
        assert self.result is not None
        return self.result

    async def wait_chunks(self, count: int) -> None:
        """Until so many are acknowledged."""
        with trio.fail_after(30):
            while self.publisher.outbox.acknowledged.chunks < count:  # noqa: ASYNC110
                await trio.sleep(0.005)


@asynccontextmanager
async def publishing(
    port: int, chunks: list[bytes], every: float = 0.05, key: str = KEY, **options: Any
) -> AsyncIterator[Run]:
    run = Run(Publisher(f"ws://127.0.0.1:{port}/stream/live", key, **options))
    run.publisher.on_event = run.events.append

    async def publish() -> None:
        run.result = await run.publisher.run(paced(chunks, every))
        run.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield run
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2))])
async def test_socket_kills(tmp_path: Path, seed: int, card: list[bytes]) -> None:
    """Between messages and inside them, both ways: all is recorded, once; the frames are the control's."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    chunks = card if seed else material(4)
    with daemon(tmp_path, PIPELINE) as running:
        async with proxy(port_of(running.ingest)) as between, publishing(between.port, chunks) as run:
            await run.wait_chunks(1)
            while not run.over.is_set() and between.connections < 40:
                await trio.sleep(rng.uniform(0.0, 0.25))
                if rng.random() < 0.5:
                    between.cut_after(rng.randrange(1, len(b"".join(chunks)) // 20))
                else:
                    between.cut()
            done = await run.end()
        status = await running.wait_ended()
    assert done.complete, done
    assert (done.sessions, done.gaps, done.missing_bytes) == (1, 0, 0)
    assert done.reconnects > 8
    assert raw(running) == b"".join(chunks)
    assert status["chunks"] == done.chunks
    assert status["gap_count"] == 0 or not seed  # a recorder that begins on a new connection counts as one
    assert status["cuts"] + status["takeovers"] >= done.reconnects / 2
    await the_recording_is_that_of(tmp_path, running, chunks)


async def the_recording_is_that_of(tmp_path: Path, running: Daemon, chunks: list[bytes]) -> None:
    """As a daemon makes it of *chunks* that nothing befalls."""
    with daemon(tmp_path / "control", COPY + MKV) as control:
        async with publishing(port_of(control.ingest), chunks, every=0.0) as run:
            assert (await run.end()).complete
        await control.wait_ended()
    (expected,) = control.recordings
    (recording,) = [path for path in running.recordings if path.suffix == ".mkv"]
    assert decode_errors(recording) == []
    assert_same_frames(read_video(recording), read_video(expected))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full)])
async def test_the_daemon_is_killed_and_comes_back(tmp_path: Path, seed: int, card: list[bytes]) -> None:
    """On the same ports and state: what it acknowledged it has, and it gets the rest; none twice."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    chunks, port = card, free_port()
    ingest = f'bind = "127.0.0.1:{port}"'
    async with trio.open_nursery() as nursery:
        with daemon(tmp_path, PIPELINE, ingest=ingest) as first:
            run = await nursery.start(publish_in_the_background, port, chunks)
            await run.wait_chunks(rng.randrange(1, 15))
            await trio.sleep(rng.uniform(0, 0.1))
            first.process.kill()
        with daemon(tmp_path, PIPELINE, ingest=ingest) as second:
            await run.wait_chunks(rng.randrange(18, 30))
            os.kill(second.process.pid, signal.SIGKILL)
        with daemon(tmp_path, PIPELINE, ingest=ingest) as third:
            done = await run.end()
            status = await third.wait_ended()
        nursery.cancel_scope.cancel()
    assert done.complete, done
    assert (done.sessions, done.reconnects, done.gaps) == (1, 2, 0)
    assert raw(third) == b"".join(chunks)
    assert (status["chunks"], status["gap_count"], status["cuts"]) == (done.chunks, 0, 2)
    await the_recording_is_that_of(tmp_path, third, chunks)


async def publish_in_the_background(
    port: int, chunks: list[bytes], *, task_status: trio.TaskStatus[Run] = trio.TASK_STATUS_IGNORED
) -> None:
    async with publishing(port, chunks, 0.12) as run:
        task_status.started(run)
        await run.over.wait()


@pytest.mark.full
@pytest.mark.parametrize("seconds", [0.5, 2.5])
async def test_a_black_hole(tmp_path: Path, seconds: float) -> None:
    """Nothing arrives any more, and nobody is told; what was held arrives late, and is of no effect."""
    chunks = material(4)
    with daemon(tmp_path, PIPELINE) as running:
        async with (
            proxy(port_of(running.ingest)) as between,
            publishing(between.port, chunks, 0.12, **LIVELY) as run,
        ):
            await run.wait_chunks(10)
            for _ in range(2):
                between.freeze()
                await trio.sleep(seconds)
                between.thaw()
                await trio.sleep(0.7)
            done = await run.end()
        await running.wait_ended()
    assert done.complete, done
    assert raw(running) == b"".join(chunks)
    silent = [
        event for event in run.events if isinstance(event, Lost) and "nothing was heard" in event.reason
    ]
    assert len(silent) == (2 if seconds > 2 else 0), run.events
    await the_recording_is_that_of(tmp_path, running, chunks)


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["kill", "hole"])
async def test_fifty_in_one_run(tmp_path: Path, card: list[bytes], fault: str) -> None:
    """50 resets, or 50 black holes that each cost a connection, at random moments of one publication."""
    rng = random.Random(fault)
    every = 0.35 if fault == "kill" else 2.6
    with daemon(tmp_path, PIPELINE) as running:
        port = port_of(running.ingest)
        async with proxy(port) as between, publishing(between.port, card, every, **LIVELY) as run:
            await run.wait_chunks(1)
            for _ in range(50):
                if fault == "kill":
                    between.cut()
                    await trio.sleep(rng.uniform(0.1, 0.4))
                else:
                    between.freeze()
                    await trio.sleep(rng.uniform(1.3, 2.0))
                    between.thaw()
                    await trio.sleep(rng.uniform(0.8, 1.2))
            done = await run.end(200)
        status = await running.wait_ended()
    print(fault, done, status["cuts"], status["takeovers"], status["resumes"])
    assert done.complete, done
    assert (done.sessions, done.gaps, status["gap_count"]) == (1, 0, 0)
    assert done.reconnects >= 40
    assert raw(running) == b"".join(card)
    await the_recording_is_that_of(tmp_path, running, card)


async def test_a_wrong_key(tmp_path: Path) -> None:
    with daemon(tmp_path, RAW) as running:
        async with publishing(port_of(running.ingest), material(), key="wrong") as run:
            done = await run.end()
    assert (done.code, done.reason, done.chunks) == (4401, "unknown stream key", 0)
    assert done.missing_chunks == 0  # it was not even asked for


async def test_taken_over_by_another(tmp_path: Path) -> None:
    """Who is told so goes; the other one has the session."""
    chunks = material(4)
    with daemon(tmp_path, COPY + '[publisher]\nsecond = "take_over"\n' + RAW) as running:
        port = port_of(running.ingest)
        async with publishing(port, chunks) as first:
            await first.wait_chunks(5)
            async with publishing(port, material(), every=0.0) as second:
                one, other = await first.end(), await second.end()
        status = await running.wait_ended()
    assert (one.complete, one.code) == (False, 4412)
    assert other.complete
    assert one.session == other.session
    assert status["takeovers"] == 1
    # What was accepted last may not have been acknowledged any more.
    possible = [b"".join([*chunks[:count], *material()]) for count in range(one.chunks, len(chunks) + 1)]
    assert raw(running) in possible


async def test_the_window_has_passed(tmp_path: Path) -> None:
    """The session is over; the publisher begins another, with the headers and from a keyframe."""
    chunks = material(1, "cv-h264webm-100.mkv")
    pipeline = COPY + '[publisher]\nreconnect_window = "1s"\n' + RAW
    with daemon(tmp_path, pipeline) as running:
        async with proxy(port_of(running.ingest)) as between, publishing(between.port, chunks, 0.1) as run:
            await run.wait_chunks(5)
            between.refusing = True
            between.cut()
            await trio.sleep(2.5)
            between.refusing = False
            done = await run.end()
        status = await running.wait_ended()
    assert (done.code, done.sessions) == (1000, 2)
    assert status["session"] == done.session
    first, second = [path.read_bytes() for path in running.recordings]
    source = b"".join(chunks)
    assert source.startswith(first)
    assert frames_of(second)[-1] == frames_of(source)[-1]
    # It may repeat what the first session had and did not acknowledge any more.
    assert done.bytes == len(source) - done.missing_bytes
    assert len(first) + len(second) >= done.bytes


@pytest.mark.parametrize(
    "name", ["", pytest.param("cv-h264webm-100.mkv", marks=pytest.mark.full), "cv-mp4avc-250.mp4"]
)
async def test_away_for_longer_than_the_buffer(tmp_path: Path, name: str, card: list[bytes]) -> None:
    """One skip, one gap with as many chunks as were dropped; what is recorded can be decoded."""
    chunks = material(1, name) if name else card
    box = Buffer(size=sum(map(len, chunks)) // 3, drop=True)
    with daemon(tmp_path, PIPELINE) as running:
        port, every = port_of(running.ingest), 4.0 / len(chunks)
        async with proxy(port) as between, publishing(between.port, chunks, every, buffer=box) as run:
            await run.wait_chunks(2)
            between.refusing = True
            between.cut()
            with trio.fail_after(10):
                while run.publisher.outbox.given.chunks < len(chunks) * 3 // 4:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            between.refusing = False
            done = await run.end()
        status = await running.wait_ended()
    (gap,) = status["gaps"]
    (dropped,) = [event for event in run.events if isinstance(event, Dropped)]
    assert gap["chunks"] == dropped.chunks == done.missing_chunks > 0
    assert (done.code, done.gaps, done.sessions) == (1000, 1, 1)
    assert status["chunks"] == done.chunks + done.missing_chunks
    (recording,) = [path for path in running.recordings if "-source-" not in path.name]
    assert decode_errors(recording) == []
    first, second = [path.read_bytes() for path in running.recordings if "-source-" in path.name]
    assert b"".join(chunks).startswith(first)
    frames = frames_of(b"".join(chunks))
    behind = frames_of(second)
    assert frames[-len(behind) :] == behind


async def test_a_thousand_wrong_tokens(tmp_path: Path) -> None:
    """Each is refused with 4403; who publishes does not notice."""
    chunks = material(2)
    codes: list[int] = []
    with daemon(tmp_path, PIPELINE) as running:
        port = port_of(running.ingest)
        async with publishing(port, chunks, every=0.2) as run:
            await run.wait_chunks(1)
            session = running.status()["session"]

            async def guess(worker: int) -> None:
                for number in range(100):
                    resume = {"session": session, "token": f"wrong-{worker}-{number}"}
                    codes.append(await refused(port, {"type": "open", "key": KEY, "resume": resume}))

            async with trio.open_nursery() as nursery:
                for worker in range(10):
                    nursery.start_soon(guess, worker)
            done = await run.end()
        status = await running.wait_ended()
    assert codes == [4403] * 1000
    assert done.complete
    assert (done.reconnects, status["cuts"], status["takeovers"]) == (0, 0, 0)
    assert raw(running) == b"".join(chunks)


async def refused(port: int, opening: dict[str, Any]) -> int:
    """The close code that *opening* is answered with."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(
            nursery, stream, "localhost", "/stream/live", subprotocols=["ingestd.v1"]
        )
        await socket.send_message(json.dumps(opening))
        with suppress(ConnectionClosed):
            while True:
                await socket.get_message()
        assert socket.closed is not None
        return int(socket.closed.code)
