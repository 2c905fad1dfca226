"""A client in plain Node, written from docs/protocol.md alone, against the real daemon."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from tests.daemon.tools import AT_ONCE, COPY, MKV, RAW
from tests.support.captures import capture
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program
from tests.support.processes import free_port

CLIENT = Path(__file__).with_name("client.mjs")
PIPELINE = COPY + RAW + MKV
VIDEO = capture("cv-vp8-250.webm").path
SOUND = capture("gum-audio-250.webm").path
MP4 = capture("cv-mp4avc-250.mp4").path
CLUSTER = bytes.fromhex("1f43b675")

Event = dict[str, Any]

pytestmark = pytest.mark.usefixtures("no_processes_left")


@define
class Client:
    """A running client, and the lines that it has printed."""

    process: trio.Process
    events: list[Event] = field(factory=list)

    async def read(self) -> None:
        """Take all that it prints, until it ends."""
        assert self.process.stdout is not None
        buffer = b""
        async for part in self.process.stdout:
            *lines, buffer = (buffer + part).split(b"\n")
            self.events += [json.loads(line) for line in lines]

    def all(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    async def wait(self, name: str, condition: Callable[[Event], bool] = lambda event: True) -> Event:
        """The first event *name* that *condition* is true of."""
        with trio.move_on_after(20):
            while True:
                for event in self.all(name):
                    if condition(event):
                        return event
                await trio.sleep(0.01)
        raise AssertionError(f"no such {name}: {self.events}")

    async def exit_code(self) -> int:
        """Its exit code, once everything that it printed is here."""
        with trio.fail_after(40):
            await self.process.wait()
            await self.wait("done")
        return self.process.returncode or 0


@asynccontextmanager
async def client(to: Daemon, *arguments: object) -> AsyncIterator[Client]:
    """Run the client for the time of the block; it must have ended then, or is killed."""
    argv = [program("node"), str(CLIENT), "--url", url_of(to), "--key", "cam-key", *map(str, arguments)]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(lambda task_status: _run(argv, task_status))
        running = Client(process)
        nursery.start_soon(running.read)
        yield running
        nursery.cancel_scope.cancel()


async def _run(argv: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(argv, stdout=-1, check=False, task_status=task_status)


def url_of(running: Daemon) -> str:
    return f"ws://{running.ingest}/stream/live"


def raw(running: Daemon) -> list[bytes]:
    """The raw recordings of all sessions, in order: one for each recorder."""
    return [path.read_bytes() for path in running.recordings if "-source-" in path.name]


async def publish(running: Daemon, *arguments: object) -> tuple[Client, Event]:
    """Let the client send all, which must succeed; the stream's status after it."""
    async with client(running, *arguments) as sending:
        assert await sending.exit_code() == 0, sending.events
    return sending, await running.wait_ended()


async def test_sends_files_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    """Every message in fragments; what the sinks have been given is what the source had."""
    with daemon(tmp_path, PIPELINE) as running:
        arguments = ("--slice", 30_000, "--fragment", 7_000, "--mime", "video/webm", "--name", "node")
        sent, status = await publish(running, *arguments, VIDEO)
        [hello] = [event["hello"] for event in sent.all("hello")]
        assert (hello["stream"], hello["next"], hello["recorder"]) == ("cam", 0, None)
        assert not hello["resumed"]
        [done] = sent.all("done")
        assert sent.all("ack")[-1]["next"] == done["due"] == -(-VIDEO.stat().st_size // 30_000)
        assert raw(running) == [VIDEO.read_bytes()]
        assert (status["state"], status["cuts"], status["gap_count"]) == ("ended", 0, 0)
        assert {sink["sent_frames"] for sink in status["sinks"]} == {status["source"]["frames"]}
        assert running.wait_event("publisher_connected")["client"] == "node"


async def test_two_recorders_in_one_session(tmp_path: Path) -> None:
    with daemon(tmp_path, PIPELINE) as running:
        sent, status = await publish(running, "--slice", 30_000, VIDEO, MP4)
        assert [event["number"] for event in sent.all("recorder")] == [0, 1]
        assert len(sent.all("hello")) == 1
        assert raw(running) == [VIDEO.read_bytes(), MP4.read_bytes()]
        assert status["gap_count"] == 0


@pytest.mark.parametrize("attempt", range(2))
async def test_cuts_lose_and_repeat_nothing(tmp_path: Path, attempt: int) -> None:
    """Wherever the connection breaks: in a chunk, before and at `hello`, by FIN or RST. SEED=… repeats."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print("SEED", seed)
    chance = random.Random(seed)
    files = [VIDEO, SOUND]
    size = chance.choice([3_000, 20_000, 70_000])
    chunks = sum(-(-file.stat().st_size // size) for file in files)
    # Not in the first chunk: a session without one is not waited for.
    cuts = [f"{number}:{chance.random():.3f}" for number in chance.sample(range(1, chunks), 3)]
    cuts.append(f"{chance.choice(['open', 'hello'])}:{chance.randrange(1, 4)}")
    arguments = ["--slice", size, "--fragment", chance.choice([0, 1_000]), "--pace", chance.choice([0, 3])]
    arguments += [text for cut in cuts for text in ("--cut", cut)] + ["--reset"] * chance.randrange(2)
    print(*arguments)
    with daemon(tmp_path, PIPELINE) as running:
        sent, status = await publish(running, *arguments, *files)
        print(*sent.events, sep="\n")
        assert len(sent.all("cut")) == 4
        assert raw(running) == [file.read_bytes() for file in files]
        # A recorder that begins with a connection may be that of a reloaded page: the server notes a gap.
        begun = {event["chunk"] for event in sent.all("recorder")} - {0}
        assert status["gap_count"] <= len(begun & {event["hello"]["next"] for event in sent.all("hello")})
        assert status["bytes"] == sum(file.stat().st_size for file in files)
        assert running.events("connection_failed") == []


async def test_end_is_not_said_in_vain(tmp_path: Path) -> None:
    """The connection breaks after `end`: a client that comes back hears that the session is over."""
    with daemon(tmp_path, PIPELINE) as running:
        async with client(running, "--cut", "end", VIDEO) as sending:
            await sending.exit_code()
        [done] = sending.all("done")
        assert (done["what"], done["code"]) in (("over", 4404), ("stop", 1000)), sending.events
        await running.wait_ended()
        assert raw(running) == [VIDEO.read_bytes()]


async def test_goes_on_after_the_daemon_was_killed(tmp_path: Path) -> None:
    """What it had not is sent to the next daemon; that one takes less in a message, so it is cut anew."""
    bind = f'bind = "127.0.0.1:{free_port()}"\n'
    with daemon(tmp_path, PIPELINE, ingest=bind) as first:
        async with client(first, "--slice", 100_000, "--pace", 120, VIDEO) as sending:
            await sending.wait("ack", lambda ack: ack["next"] > 4)
            first.process.kill()
            first.process.wait()
            with daemon(tmp_path, PIPELINE, ingest=f'{bind}max_message = "64KiB"\n') as second:
                assert await sending.exit_code() == 0, sending.events
                status = await second.wait_ended()
                before, after = (event["hello"] for event in sending.all("hello"))
                assert before["session"] == after["session"] == status["session"]
                assert after["resumed"]
                assert after["next"] >= 5
                assert raw(second) == [VIDEO.read_bytes()]
                assert (status["cuts"], status["gap_count"]) == (1, 0)


async def test_takes_its_own_place_over_from_a_dead_connection(tmp_path: Path) -> None:
    """A daemon that stands still: the client waits no longer than for a ping, and keeps its session."""
    pings = 'bind = "127.0.0.1:0"\nping_interval = "1s"\nping_timeout = "1s"\n'
    with daemon(tmp_path, PIPELINE, ingest=pings) as running:
        async with client(running, "--slice", 40_000, "--pace", 50, VIDEO) as sending:
            await sending.wait("ack")
            running.process.send_signal(signal.SIGSTOP)
            try:
                await sending.wait("silence")
            finally:
                running.process.send_signal(signal.SIGCONT)
            assert await sending.exit_code() == 0, sending.events
        assert len({event["hello"]["session"] for event in sending.all("hello")}) == 1
        await running.wait_ended()
        assert raw(running) == [VIDEO.read_bytes()]


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        pytest.param(["--drop", "5-9"], 5, id="in the middle"),
        pytest.param(["--drop", "0-3"], 0, id="the headers, too"),
        pytest.param(["--drop", "5-9", "--cut", "54:0.5"], 5, id="cut at the chunk behind"),
        pytest.param(["--drop", "60-80"], 60, id="all that follows"),
    ],
)
async def test_a_skip_is_one_gap(tmp_path: Path, arguments: list[str], received: int) -> None:
    """The client goes on at the next keyframe, and the status says how many chunks are missing."""
    data, size = VIDEO.read_bytes(), 20_000
    headers = data[: data.index(CLUSTER)]
    with daemon(tmp_path, PIPELINE) as running:
        sent, status = await publish(running, "--slice", size, *arguments, VIDEO)
        skip = sent.all("skip")[0]
        assert skip["from"] == received
        [gap] = status["gaps"]
        assert (status["gap_count"], gap["chunks"]) == (1, skip["to"] - received)
        assert gap["reason"] == skip["reason"]
        assert sent.all("done")[0]["dropped"] == gap["chunks"]
        expected = [data[: received * size]] if received else []
        if skip["to"] * size < len(data):
            keyframe = data.index(CLUSTER, skip["to"] * size)
            assert keyframe < (skip["to"] + 1) * size
            expected.append(headers + data[keyframe:])
        assert raw(running) == expected


async def test_a_second_client_with_the_token_takes_over(tmp_path: Path) -> None:
    """Without it, it is refused. The first one is told, and does not come back."""
    with daemon(tmp_path, PIPELINE) as running:
        async with client(running, "--slice", 20_000, "--stay", VIDEO) as first:
            hello = (await first.wait("hello"))["hello"]
            await first.wait("ack", lambda ack: ack["next"] == 73)
            async with client(running, SOUND) as second:
                assert await second.exit_code() == 1
                assert second.all("done")[0]["code"] == 4409
            resume = f"{hello['session']}:{hello['token']}"
            third, status = await publish(running, "--resume", resume, SOUND)
            assert await first.exit_code() == 1
            assert first.all("done")[0]["code"] == 4412
        taken = third.all("hello")[0]["hello"]
        assert (taken["session"], taken["next"], taken["recorder"]) == (hello["session"], 73, 0)
        assert third.all("recorder")[0]["number"] == 1
        assert raw(running) == [VIDEO.read_bytes(), SOUND.read_bytes()]
        assert status["takeovers"] == 1


OPEN = {"say": {"type": "open", "key": "$key"}}
HELLO = {"wait": "hello"}
BEGUN = [OPEN, HELLO, {"say": {"type": "recorder", "number": 0}}]
END = {"say": {"type": "end"}}


def opening(**fields: object) -> Event:
    return {"say": {**OPEN["say"], **fields}}


def say(name: str, **fields: object) -> Event:
    return {"say": {"type": name, **fields}}


def chunk(number: int, recorder: int = 0, **data: object) -> Event:
    """*number* counts from the one that is due; *data*: ``hex``, or ``file`` and ``to``."""
    return {"chunk": {"number": number, "recorder": recorder, **data}}


def unmasked(first: int, payload: bytes) -> Event:
    return {"raw": bytes([first, len(payload), *payload]).hex()}


def nested(depth: int) -> Event:
    """A message that is nested so deep, of a type that nobody knows."""
    return {"text": '{"type": "later", "field": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"}


def long(size: int) -> Event:
    """A message of so many bytes, of a type that nobody knows."""
    return {"text": '{"type":"later","field":"'.ljust(size - 2, "x") + '"}'}


TALKS = {
    "text before open": (4400, [say("stats")]),
    "an unknown type before open": (4400, [say("later"), OPEN]),
    "a chunk before open": (4400, [chunk(0)]),
    "nothing": (4408, []),
    "no JSON": (4400, [{"text": "{"}]),
    "no type": (4400, [{"text": "{}"}]),
    "another key": (4401, [opening(key="other")]),
    "no key": (4401, [say("open")]),
    "a key of the wrong size": (4400, [opening(key="")]),
    "a long name": (4400, [opening(client="x" * 65)]),
    "a session of another type": (4400, [opening(resume={"session": 1, "token": "x"})]),
    "another session": (4403, [opening(resume={"session": "other", "token": "other"})]),
    "no wait for hello": (4400, [OPEN, say("recorder", number=0)]),
    "a second open": (4400, [OPEN, HELLO, OPEN]),
    "no recorder": (4400, [OPEN, HELLO, chunk(0)]),
    "another recorder": (4400, [*BEGUN, chunk(0, 1)]),
    "an earlier recorder": (4400, [OPEN, HELLO, say("recorder", number=2), say("recorder", number=1)]),
    "a recorder that is no integer": (4400, [OPEN, HELLO, {"text": '{"type": "recorder", "number": 0.0}'}]),
    "a number too great": (4400, [*BEGUN, chunk(1)]),
    "a number again": (4400, [*BEGUN, chunk(0), chunk(0)]),
    "half a header": (4400, [*BEGUN, {"message": "00" * 11}]),
    "a skip to the number due": (4400, [*BEGUN, say("skip", to="$next+0")]),
    "stats in words": (4400, [*BEGUN, say("stats", bitrate="fast")]),
    "too deep": (4400, [*BEGUN, nested(9)]),
    "too long": (1009, [*BEGUN, long(16385)]),
    "a chunk too long": (1009, [*BEGUN, chunk(0, file=str(VIDEO), to=65536 - 11)]),
    "not UTF-8": (1007, [*BEGUN, {"raw": "818200000000ffff"}]),
    "no mask": (1002, [*BEGUN, unmasked(0x81, b"{}")]),
    "no media": (4415, [*BEGUN, chunk(0, hex=b"no container".hex())]),
    "nothing to send": (1000, [*BEGUN, END]),
    "all that may be null": (1000, [opening(client=None, resume=None), HELLO, END]),
    "what nobody knows": (1000, [opening(field=[1]), HELLO, say("later"), nested(8), long(16384), END]),
    "an empty chunk": (1000, [*BEGUN, chunk(0), {"wait": "ack"}, END]),
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Event]:
    """How the server closed each of TALKS, which are held all at once, each with a stream of its own."""
    limits = 'handshake_timeout = "1s"\nmax_message = "64KiB"\nmax_streams = 100\n'
    streams = "".join(f'[streams.s{n}]\nkey = "key{n}"\npipeline = "test"\n' for n in range(len(TALKS)))
    scripts = {
        talk: json.loads(json.dumps(steps).replace("$key", f"key{n}"))
        for n, (talk, (_, steps)) in enumerate(TALKS.items())
    }
    directory = tmp_path_factory.mktemp("talks")
    with daemon(
        directory, COPY + AT_ONCE + RAW, config=streams, ingest=f'bind = "127.0.0.1:0"\n{limits}'
    ) as running:
        return play(running, scripts)


@pytest.mark.parametrize("talk", TALKS)
def test_close_codes(closed: dict[str, Event], talk: str) -> None:
    """What is said wrongly is told by the code that the specification has for it."""
    code, _ = TALKS[talk]
    assert closed[talk]["code"] == code, closed[talk]


def test_tokens(tmp_path: Path) -> None:
    """A wrong one is refused; the right one is good again and again, though a `hello` was lost."""
    again, lost = {"again": True}, {"cut": True}
    resume = opening(resume={"session": "$session", "token": "$token"})
    begun = [*BEGUN, chunk(0), {"wait": "ack"}]
    scripts = {
        "wrong": [*begun, lost, again, opening(resume={"session": "$session", "token": "$token-"})],
        "right": [*begun, lost, again, resume, lost, again, resume, HELLO, lost, again, resume, HELLO, END],
        "late": [*begun, END, again, resume],
        "another's": [*begun, lost, again, OPEN, HELLO, lost, again, resume, HELLO, END],
    }
    with daemon(tmp_path, COPY + RAW) as running:
        for name, expected in {"right": 1000, "late": 4404, "another's": 1000, "wrong": 4403}.items():
            steps = json.loads(json.dumps(scripts[name]).replace("$key", "cam-key"))
            assert play(running, {name: steps})[name]["code"] == expected, name


def play(running: Daemon, scripts: dict[str, list[Event]]) -> dict[str, Event]:
    """The last `close` of each of *scripts*."""
    argv = [program("node"), str(CLIENT), "--url", url_of(running), "--scripts", json.dumps(scripts)]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return {event["script"]: event for event in events if event["event"] == "close"}
