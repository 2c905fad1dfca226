"""Where a stream's own targets come from while it is live: the API, and a database that comes late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.control.tools import acall, call, eventually, make, until
from tests.daemon.tools import ENCODE, card, live
from tests.support.daemon import Daemon, daemon
from tests.support.postgres import running_postgres
from tests.support.rtmps_server import RtmpServer


def pipeline(server: RtmpServer) -> str:
    return (
        f'[[sinks]]\ntype = "rtmp"\nname = "push"\nurl = "{server.rtmps_url}"\nper_stream = true\n'
        f'ca_file = "{server.ca_file}"\n{ENCODE}keyframe_interval = "500ms"\n'
    )


def config(directory: Path, more: str = "") -> str:
    (directory / "secret").write_text("c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    return (
        '[supervisor]\nbackoff = ["100ms"]\nretry_failed_every = "1h"\n'
        f'[database]\nsecret_key_file = "secret"\ntimeout = "400ms"\n{more}'
    )


async def sink(running: Daemon, name: str, *states: str) -> dict[str, Any]:
    """Wait until the only sink of *name* is in one of *states*; how it stands then."""

    def there() -> Any:
        sinks = call(running, "GET", f"/v1/streams/{name}").json["sinks"]
        return sinks and sinks[0]["state"] in states and sinks[0]

    found: dict[str, Any] = await eventually(there, 30)
    return found


@pytest.mark.usefixtures("no_processes_left")
async def test_a_target_acts_at_once(tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str) -> None:
    """One that is missing, and one that is another; a change of anything else disturbs no sink."""
    chunks = await card(ffmpeg, 12)
    with daemon(tmp_path, pipeline(rtmp_server), config=config(tmp_path)) as running:
        key = make(running, name="mine")["key"]
        async with live(running, chunks, key=key):
            lacking = await sink(running, "mine", "failed")
            assert 'no target for the sink "push"' in lacking["last_error"]
            for number in (1, 2):
                target = {"sink": "push", "key": f"target-{number}"}
                changed = await acall(running, "PATCH", "/v1/streams/mine", {"targets": [target]})
                assert changed.status == 200
                await eventually(lambda: rtmp_server.publishing(f"target-{number}"))  # noqa: B023  at once
            before = await sink(running, "mine", "running")
            assert not rtmp_server.publishing("target-1")
            await acall(running, "PATCH", "/v1/streams/mine", {"title": "x", "targets": [target]})
            assert (await sink(running, "mine", "running"))["pid"] == before["pid"]
            await acall(running, "POST", "/v1/streams/mine/stop")
        await until(running, "mine", "ended")


@pytest.mark.usefixtures("no_processes_left")
async def test_a_database_that_comes_late(tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str) -> None:
    """A daemon that starts without it goes on with the sessions of streams that only the database has.

    Their publishers come back, and once it is there their sinks push where they did.
    """
    chunks = await card(ffmpeg, 12)
    with running_postgres() as postgres:
        directory = tmp_path / "daemon"
        directory.mkdir()
        settings = config(directory, f'url = "{postgres.new_database()}"\n')
        with daemon(directory, pipeline(rtmp_server), config=settings) as running:
            key = make(running, name="mine", targets=[{"sink": "push", "key": "own"}])["key"]
            async with live(running, chunks, key=key):
                await eventually(lambda: rtmp_server.publishing("own"))
                session = (await acall(running, "GET", "/v1/streams/mine")).json["session"]
                running.kill()
            postgres.stop()
            running.start_again()
            await trio.to_thread.run_sync(running.wait_ready)
            async with live(running, chunks, key=key):
                status = await until(running, "mine", "live")
                assert status["session"] == session
                waiting = await sink(running, "mine", "backing_off")
                assert "the database is away" in waiting["last_error"]
                assert (await acall(running, "PATCH", "/v1/streams/mine", {"title": "x"})).status == 503
                assert rtmp_server.connections("own") == 1
                await trio.to_thread.run_sync(postgres.start)
                await eventually(lambda: rtmp_server.connections("own") == 2, 30)
                await sink(running, "mine", "running")
                assert (await acall(running, "PATCH", "/v1/streams/mine", {"title": "x"})).status == 200
                await acall(running, "POST", "/v1/streams/mine/stop")
            await until(running, "mine", "ended")
            assert running.events("child_failed") == []
        rtmp_server.wait_idle()
        assert len(rtmp_server.recordings("own")) == 2
