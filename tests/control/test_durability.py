"""What was answered 2xx is there afterwards; without the database nothing is promised, the rest goes on."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
import trio

from ingestd.registry.keys import digest
from tests.cli.tools import Ingestd
from tests.control.conftest import MANY
from tests.control.tools import Answer, acall, call, eventually, make, until
from tests.daemon.tools import AT_ONCE, COPY, ENCODE, HLS, MKV, all_running, browser_chunks, card, live
from tests.registry.tools import rows
from tests.support.daemon import Daemon, daemon
from tests.support.postgres import Postgres, running_postgres

LONG = (pytest.mark.full, pytest.mark.timeout(400))
CONFIG = MANY + '[database]\ntimeout = "300ms"\n'


@contextmanager
def made(directory: Path, url: str) -> Iterator[Daemon]:
    config = CONFIG + (f'url = "{url}"\n' if url else "")
    with daemon(directory, COPY + AT_ONCE + MKV, config=config, control='pipeline = "test"\n') as made:
        yield made


@pytest.fixture
def running(tmp_path: Path, url: str) -> Iterator[Daemon]:
    """Over each database."""
    with made(tmp_path, url) as daemon:
        yield daemon


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """Over each, where one is enough for the every day."""
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    with made(tmp_path, url) as daemon:
        yield daemon


@contextmanager
def away(running: Daemon, url: str, postgres: Postgres) -> Iterator[None]:
    """The database answers nobody: somebody has it to themselves, or it stands still."""
    if url:
        postgres.freeze()
        try:
            yield
        finally:
            postgres.resume()
        return
    connection = sqlite3.connect(running.state_dir / "ingestd.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_what_was_answered_survives_a_kill(running: Daemon, url: str) -> None:
    """SIGKILL right after the last answer: each stream is as it was answered, and its key works."""
    made = {f"s{number}": make(running, name=f"s{number}", title="first")["key"] for number in range(20)}
    for number in range(0, 20, 2):
        assert call(running, "PATCH", f"/v1/streams/s{number}", {"title": "second"}).status == 200
    made["s1"] = call(running, "POST", "/v1/streams/s1/reset-key").json["key"]
    assert call(running, "DELETE", "/v1/streams/s3").status == 204
    running.kill()
    running.start_again()
    running.wait_ready()
    listed = {each["name"]: each for each in call(running, "GET", "/v1/streams").json["streams"]}
    assert set(listed) == {"cam", *made} - {"s3"}
    for number in (0, 1, 2, 4):
        assert listed[f"s{number}"]["title"] == ("first" if number % 2 else "second")
    kept = {
        name: bytes(key) for name, key in rows(url, running.state_dir, "SELECT name, key_sha256 FROM streams")
    }
    assert all(kept[name] == digest(key) for name, key in made.items() if name != "s3")


@pytest.mark.parametrize(("calls", "kills"), [(40, 2), pytest.param(200, 10, marks=LONG)])
async def test_kills_at_random_moments(running: Daemon, calls: int, kills: int) -> None:
    """All that was answered is there; of what was not, each call was done or not; nobody stays on air.

    A stream is live meanwhile, by a publisher that does not come back.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"s{number}" for number in range(calls // 4)]
    titles: dict[str, set[str | None]] = {}  # what a stream's title may be; None: it may not be there
    done, up = 0, trio.Event()
    up.set()

    async def client() -> None:
        nonlocal done
        while names:
            name = names.pop()
            possible = titles[name] = {None}
            for number in range(4):
                title, path = f"{name} {number}", f"/v1/streams/{name}" if number else "/v1/streams"
                body = {"title": title} if number else {"title": title, "name": name}
                possible.add(title)
                await up.wait()
                try:
                    answer = await acall(running, "PATCH" if number else "POST", path, body)
                except (OSError, HTTPException):
                    await trio.sleep(0.01)  # by then it is known to be down
                else:
                    # Not there, where the daemon died before it was made.
                    assert answer.status in ((200, 404) if number else (201,)), answer.body
                    possible.clear()
                    possible.add(title if answer.status != 404 else None)
                done += 1

    async def clients() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client)

    async with live(running, browser_chunks()):
        await until(running, "cam", "live")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clients)
        for kill in range(1, kills + 1):
            with trio.move_on_after(30):
                while done < kill * calls / (kills + 1):  # noqa: ASYNC110  other tasks count
                    await trio.sleep(0.002)
            await trio.sleep(rng.uniform(0, 0.05))
            up = trio.Event()
            running.kill()
            running.start_again()
            await trio.to_thread.run_sync(running.wait_ready)
            up.set()
    running.kill()
    running.start_again()
    running.wait_ready()
    running.wait_event("registry_ready")
    there = {each["name"]: each["title"] for each in call(running, "GET", "/v1/streams").json["streams"]}
    for name, possible in titles.items():
        assert there.get(name) in possible, name
    on_air = call(running, "GET", "/v1/sessions?on_air=true").json["sessions"]
    live_now = {
        each["name"]
        for each in call(running, "GET", "/v1/streams?state=live,interrupted,connecting").json["streams"]
    }
    assert {each["stream"] for each in on_air} <= live_now


def test_an_idempotency_key_survives_a_kill(running: Daemon, url: str) -> None:
    """The answer that was lost with the daemon is given by the next one, publish key and all."""
    first = call(running, "POST", "/v1/streams", {"title": "x"}, Idempotency_Key="before")
    running.kill()
    running.start_again()
    running.wait_ready()
    again = call(running, "POST", "/v1/streams", {"title": "x"}, Idempotency_Key="before")
    assert (again.status, again.body) == (201, first.body)
    ((sealed,),) = rows(url, running.state_dir, "SELECT sealed FROM idempotency")
    assert first.json["key"].encode() not in bytes(sealed)
    for file in running.state_dir.glob("ingestd.db*"):
        assert first.json["key"].encode() not in file.read_bytes()


async def test_recordings_outlive_their_stream_and_a_restart(either: Daemon) -> None:
    """They are listed and can be downloaded, although nothing is declared or registered any more."""
    running = either
    key = make(running, name="gone")["key"]
    async with live(running, browser_chunks(), key=key):
        await until(running, "gone", "live")
        await acall(running, "POST", "/v1/streams/gone/stop")
    await until(running, "gone", "ended")
    assert (await acall(running, "DELETE", "/v1/streams/gone")).status == 204
    listing = "/v1/recordings?stream=gone"
    (before,) = await eventually(lambda: call(running, "GET", listing).json["recordings"])
    running.kill()
    running.start_again()
    running.wait_ready()
    running.wait_event("registry_ready")
    (after,) = call(running, "GET", listing).json["recordings"]
    assert after == {**before, "changed": after["changed"]}
    assert call(running, "GET", f"/v1/recordings/{after['id']}/file").status == 200
    (session,) = call(running, "GET", "/v1/sessions?stream=gone").json["sessions"]
    assert (session["state"], session["id"]) == ("ended", before["session"])


async def test_without_the_database_nothing_is_promised(
    running: Daemon, url: str, postgres: Postgres
) -> None:
    """Writes are 503 with Retry-After, soon; reads go on from memory, and so does what is live."""
    make(running, name="mine")
    writes = [
        ("POST", "/v1/streams", {}),
        ("POST", "/stream/create", {}),
        ("PATCH", "/v1/streams/mine", {"title": "x"}),
        ("DELETE", "/v1/streams/mine", None),
        ("POST", "/v1/streams/mine/disable", None),
        ("POST", "/v1/streams/mine/reset-key", None),
    ]
    async with live(running, browser_chunks()):
        before = await until(running, "cam", "live")
        with away(running, url, postgres):
            for method, path, body in writes:
                began = time.monotonic()
                refused = await acall(running, method, path, body)
                assert refused.problem["status"] == 503
                assert int(refused.headers["Retry-After"]) >= 1
                assert time.monotonic() - began < 5
            listed = (await acall(running, "GET", "/v1/streams")).json["streams"]
            assert [each["name"] for each in listed] == ["cam", "mine"]
            assert (await acall(running, "GET", "/internal/health")).json["database"] == "away"
            after = (await acall(running, "GET", "/v1/streams/cam")).json
            assert (after["state"], after["chunks"] > before["chunks"]) == ("live", True)
        assert (await acall(running, "GET", "/v1/streams/mine")).json["enabled"] is True
        await eventually(lambda: call(running, "POST", "/v1/streams", {}).status == 201)


#: What is answered without the database; `{id}` is a recording's, `cam` is live.
FROM_MEMORY = (
    "GET /v1/streams", "GET /v1/streams/cam", "GET /v1/streams?state=live",
    "GET /v1/streams/cam/thumbnail.jpg", "POST /v1/streams/cam/link", "GET /v1/pipelines", "GET /v1/logs",
    "GET /v1/webhooks", "GET /metrics", "GET /healthz", "GET /readyz", "GET /internal/health",
    "GET /internal/stream-status/cam", "GET /hls/cam/index.m3u8", "POST /v1/streams/cam/sinks/hls/restart",
)  # fmt: skip
NOT_NOW = (
    "GET /v1/sessions", "GET /v1/sessions/20260101T000000.000Z", "GET /v1/streams/cam/sessions",
    "GET /v1/recordings", "GET /v1/recordings/{id}", "GET /v1/recordings/{id}/file",
    "DELETE /v1/recordings/{id}", "GET /v1/webhooks/deliveries", "GET /v1/webhooks/deliveries/x",
    "POST /v1/webhooks/deliveries/x/redeliver", "POST /v1/streams", "POST /stream/create",
    "PATCH /v1/streams/mine", "POST /v1/streams/mine/disable", "POST /v1/streams/mine/reset-key",
    "DELETE /v1/streams/mine",
)  # fmt: skip


async def test_what_is_answered_while_the_database_is_gone(tmp_path: Path, ffmpeg: str) -> None:
    """PostgreSQL stops: what runs is told and steered; the rest is 503, when to come again, and declared."""
    with running_postgres() as server:
        config = f'{MANY}[database]\ntimeout = "300ms"\nurl = "{server.new_database()}"\n'
        pipeline = ENCODE + AT_ONCE + HLS + MKV
        with daemon(tmp_path, pipeline, config=config, control='pipeline = "test"\n') as running:
            make(running, name="mine")
            async with live(running, await card(ffmpeg, 6)):
                await running.wait_until(lambda s: len(s["sinks"]) == 2 and all_running(s))
                await eventually(lambda: call(running, "GET", "/hls/cam/index.m3u8").status == 200)
                await trio.to_thread.run_sync(server.stop)
                for asked in FROM_MEMORY:
                    assert (await ask(running, asked)).status == 200, asked
                for asked in NOT_NOW:
                    refused = await ask(running, asked)
                    assert refused.problem["status"] == 503, asked
                    assert refused.headers["Retry-After"] == "5"
                    assert 503 in declared(running, asked), asked
                assert "stream.ended" in await trio.to_thread.run_sync(told_of_its_end, running)
            running.kill()
            running.start_again()
            running.wait_ready()
            listed = call(running, "GET", "/v1/streams").json
            assert ([each["name"] for each in listed["streams"]], listed["complete"]) == (["cam"], False)
            cli = Ingestd(f"http://{running.control}")
            assert await trio.to_thread.run_sync(cli.json, "streams") == listed
            assert "are not known yet" in await trio.to_thread.run_sync(cli.good, "streams")
            unknown = call(running, "GET", "/v1/streams/mine")
            assert (unknown.problem["status"], unknown.headers["Retry-After"]) == (503, "5")
            server.start()
            await eventually(lambda: call(running, "GET", "/v1/streams").json["complete"], within=40)
            assert call(running, "GET", "/v1/streams/mine").status == 200


def told_of_its_end(running: Daemon) -> str:
    """What ``/v1/events`` tells up to the end of ``cam``, which is stopped."""
    host, _, port = running.control.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("GET", "/v1/events?stream=cam")
        lines = connection.getresponse()
        assert call(running, "POST", "/v1/streams/cam/stop").status == 200
        told = ""
        while "event: stream.ended\n" not in told:
            told += lines.readline().decode()
        return told
    finally:
        connection.close()


async def ask(running: Daemon, asked: str) -> Answer:
    """*asked* is a method and a path."""
    method, path = asked.replace("{id}", "a" * 24).split()
    return await acall(running, method, path, {} if method in ("POST", "PATCH") else None)


def declared(running: Daemon, asked: str) -> set[int]:
    """The answers that the document has for it."""
    method, path = asked.partition("?")[0].split()
    paths = call(running, "GET", "/v1/openapi.json").json["paths"]
    (found,) = (
        operations
        for template, operations in paths.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        and method.lower() in operations
        and (path.endswith("deliveries") == template.endswith("deliveries"))
    )
    return {int(status) for status in found[method.lower()]["responses"]}
