"""A stream at Mux by the API alone: a real daemon pushes to a real RTMPS server, and only Mux is a fake."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from tests.cli.tools import Ingestd
from tests.control.tools import Answer, acall
from tests.daemon.tools import browser_chunks, live
from tests.mux.tools import mux_config
from tests.support.daemon import Daemon, daemon
from tests.support.fake_mux import FakeMux, fake_mux
from tests.support.rtmps_server import RtmpServer

PIPELINE = """
[publisher]
reconnect_window = "0s"
[video]
codec = "h264"
size = "320x180"
preset = "ultrafast"
keyframe_interval = "500ms"
[[sinks]]
type = "mux"
per_stream = true
endpoint = "{url}"
ca_file = "{ca}"
timeout = "1s"
"""
CONFIG = """
[supervisor]
backoff = ["100ms"]
stall_timeout = "1s"
retry_failed_every = "500ms"
[database]
secret_key_file = "{seal}"
timeout = "300ms"
[mux]
token_id_file = "{folder}/id"
token_secret_file = "{folder}/secret"
webhook_secret_file = "{folder}/webhook"
api = "{api}"
reconnect_window = "30s"
deadline = "2s"
timeout = "500ms"
"""


@frozen
class House:
    """A daemon with a key for Mux's API, the fake of that, and the server that it pushes to."""

    running: Daemon
    fake: FakeMux
    rtmps: RtmpServer

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """What the API answers, with *status*."""
        answer: Answer = await acall(self.running, method, path, body)
        assert answer.status == status, answer.body
        return answer.json if answer.body else None

    async def until(self, name: str, **wanted: object) -> None:
        """Until the stream's ``mux`` has *wanted*."""
        with trio.fail_after(20):
            while True:
                status = await self.ask("GET", f"/v1/streams/{name}")
                if status["mux"].items() >= wanted.items():
                    return


@asynccontextmanager
async def house(directory: Path, rtmps: RtmpServer) -> AsyncIterator[House]:
    async with fake_mux() as fake, trio.open_nursery() as nursery:
        mux_config(directory, fake.api)
        seal = directory / "seal"
        seal.write_bytes(base64.b64encode(b"s" * 32))
        pipeline = PIPELINE.format(url=rtmps.rtmps_url, ca=rtmps.ca_file)
        config = CONFIG.format(seal=seal, folder=directory, api=fake.api)
        with daemon(directory / "daemon", pipeline, config=config) as running:
            fake.webhook_url = f"http://{running.control}/webhooks/mux"
            nursery.start_soon(fake.follow, rtmps)
            yield House(running, fake, rtmps)
        nursery.cancel_scope.cancel()


async def test_the_life_of_a_stream_at_mux(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """Made there when it is made here; pushed to with its own key; disabled, enabled and deleted with it."""
    async with house(tmp_path, rtmp_server) as home:
        wanted = {"name": "studio", "pipeline": "test", "mux": {"reconnect_window": 60}}
        made = await home.ask("POST", "/v1/streams", wanted, 201)
        (at_mux,) = home.fake.streams.values()
        assert made["mux"]["stream_id"] == at_mux["id"]
        assert (made["mux"]["reconnect_window"], at_mux["reconnect_window"]) == (60, 60)
        assert made["targets"] == [{"sink": "mux", "url": None}]
        (playback,) = (each for each in made["playback"] if each["provider"] == "mux")
        assert playback["url"] == f"https://stream.mux.com/{playback['id']}.m3u8"
        assert at_mux["stream_key"] not in str(made)

        async with live(home.running, browser_chunks(), key=made["key"]):
            await home.until("studio", status="active", warning=None)
            assert rtmp_server.publishing(at_mux["stream_key"])
            # What is pushed cannot be passed on now, and Mux says why.
            simulcast = {"url": "rtmps://other.example.org/app", "key": "theirs"}
            refusal = await home.ask("POST", "/v1/streams/studio/simulcast", simulcast, 502)
            assert "idle" in refusal["detail"]
        await home.until("studio", status="idle")
        assert home.fake.completed_early == [False]

        told = await home.ask("POST", "/v1/streams/studio/simulcast", simulcast, 201)
        await home.ask("DELETE", f"/v1/streams/studio/simulcast/{told['id']}", status=204)
        assert at_mux["simulcast_targets"] == []
        await home.ask("POST", "/v1/streams/studio/disable")
        assert at_mux["status"] == "disabled"
        await home.ask("PATCH", "/v1/streams/studio", {"enabled": True})
        assert at_mux["status"] == "idle"
        key = at_mux["stream_key"]
        again = await home.ask("POST", "/v1/streams/studio/reset-key")
        assert at_mux["stream_key"] != key
        async with live(home.running, browser_chunks(), key=again["key"]):
            await home.until("studio", status="active")
            assert rtmp_server.publishing(at_mux["stream_key"])
        await home.ask("DELETE", "/v1/streams/studio", status=204)
        assert home.fake.streams == {}
        log = "\n".join(str(event) for event in home.running.events())
        assert not re.search("fake-key|fake/token", log)


async def test_mux_from_the_shell(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """Options at create; simulcast targets added, listed, removed; keys come from files."""
    key = "their-key-that-nobody-may-see"
    (tmp_path / "key").write_text(f"{key}\n")
    async with house(tmp_path, rtmp_server) as home:
        cli = Ingestd(f"http://{home.running.control}")

        async def good(*args: str | Path) -> Any:
            return await trio.to_thread.run_sync(cli.json, "streams", *args)

        made = await good("create", "studio", "--pipeline", "test", "--mux-latency", "reduced",
                          "--mux-window", "1m", "--mux-playback", "signed")  # fmt: skip
        (at_mux,) = home.fake.streams.values()
        assert (at_mux["latency_mode"], at_mux["reconnect_window"]) == ("reduced", 60)
        assert at_mux["playback_ids"][0]["policy"] == "signed"
        for wrong in ("rtmps://[x/app", "rtmps:///app"):
            refusal = {"url": wrong, "key": key}
            refused = await home.ask("POST", "/v1/streams/studio/simulcast", refusal, 422)
            assert refused["detail"].startswith("url: expected")
        url = "rtmps://user:word@live.example.org/app/instance"
        added = await good("simulcast", "studio", "--add", url, "--key", tmp_path / "key")
        assert at_mux["simulcast_targets"][0]["stream_key"] == key
        listed = await good("simulcast", "studio")
        assert listed == {"simulcast": [added]}
        assert (added["status"], added["url"]) == ("idle", "rtmps://live.example.org/app")
        shown = await trio.to_thread.run_sync(cli.good, "streams", "simulcast", "studio")
        assert added["id"] in shown
        assert key not in f"{made}{listed}{shown}{home.running.log.read_text()}"
        remove = partial(cli.good, "streams", "simulcast", "studio", "--remove", added["id"])
        assert "is removed" in await trio.to_thread.run_sync(remove)
        assert await good("simulcast", "studio") == {"simulcast": []}
        home.fake.fault("GET .*", "status", status=503, times=50)
        error = await trio.to_thread.run_sync(cli.bad, "streams", "simulcast", "studio")
        assert "Mux answered 503" in error


async def test_a_key_is_not_lost_to_who_hangs_up(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """Mux's new key is stored, though nobody waits for the answer; without the database Mux is not asked."""
    async with house(tmp_path, rtmp_server) as home:
        await home.ask("POST", "/v1/streams", {"name": "studio", "pipeline": "test"}, 201)
        (at_mux,) = home.fake.streams.values()
        key = at_mux["stream_key"]
        home.fake.fault("POST .*/reset-stream-key", "status", status=503, retry_after="1")
        with pytest.raises(TimeoutError):
            await acall(home.running, "POST", "/v1/streams/studio/reset-key", timeout=0.3)
        with trio.fail_after(10):
            while at_mux["stream_key"] == key:  # noqa: ASYNC110  there is no event
                await trio.sleep(0.02)
            while not home.running.events("stream_updated"):  # noqa: ASYNC110
                await trio.sleep(0.02)
        key = at_mux["stream_key"]
        with sqlite3.connect(home.running.state_dir / "ingestd.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            await home.ask("POST", "/v1/streams/studio/reset-key", status=503)
            other.execute("ROLLBACK")
        other.close()
        assert at_mux["stream_key"] == key


async def test_what_cannot_be_made_is_not_there(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """Mux is away, refuses, or the name is taken: nothing is left there or here."""
    async with house(tmp_path, rtmp_server) as home:
        home.fake.fault("POST .*", "status", status=503, times=50)
        refusal = await home.ask("POST", "/v1/streams", {"name": "a", "pipeline": "test"}, 502)
        assert "Mux" in refusal["detail"]
        await home.ask("GET", "/v1/streams/a", status=404)
        for wrong in ({"latency_mode": "warp"}, {"reconnect_window": 0.5}, {"reconnect_window": 1}):
            body = {"name": "a", "pipeline": "test", "mux": wrong}
            refusal = await home.ask("POST", "/v1/streams", body, 422)
            assert refusal["detail"].startswith("mux")
        assert home.fake.streams == {}


async def test_a_target_of_ones_own_needs_no_live_stream(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """With a key of another live stream nothing is made, and options for it are a mistake."""
    async with house(tmp_path, rtmp_server) as home:
        own = {"name": "own", "pipeline": "test", "targets": [{"sink": "mux", "key": "another-key"}]}
        assert (await home.ask("POST", "/v1/streams", own, 201))["mux"] is None
        refusal = await home.ask("POST", "/v1/streams", {**own, "name": "x", "mux": {}}, 422)
        assert refusal["detail"].startswith("mux: expected none")
        await home.ask("POST", "/v1/streams/own/simulcast", {"url": "rtmp://h/a", "key": "k"}, 409)
        assert home.fake.requests == []


async def test_what_a_killed_daemon_leaves_at_mux_is_deleted(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """A live stream whose stream was never stored, and one whose deletion Mux did not take."""
    async with house(tmp_path, rtmp_server) as home, trio.open_nursery() as nursery:
        fake, running = home.fake, home.running

        async def restart() -> None:
            running.kill()
            fake.mend()
            running.start_again()
            await trio.to_thread.run_sync(running.wait_ready)

        async def nothing_left() -> None:
            with trio.fail_after(20):
                while (await home.ask("GET", "/v1/mux/leftovers"))["leftovers"] or fake.streams:
                    pass

        async def create() -> None:
            with suppress(OSError, HTTPException):
                await acall(running, "POST", "/v1/streams", {"name": "never", "pipeline": "test"})

        fake.fault("GET .*", times=1000)
        fake.fault("POST .*", "hang_after")
        nursery.start_soon(create)
        with trio.fail_after(20):
            while not fake.streams:  # noqa: ASYNC110  of another thread
                await trio.sleep(0.005)
        (left,) = (await home.ask("GET", "/v1/mux/leftovers"))["leftovers"]
        assert (left["stream"], left["stream_id"], left["attempts"]) == ("never", None, 0)
        assert left["passthrough"].startswith("ingestd:never:")
        await restart()
        await home.ask("GET", "/v1/streams/never", status=404)
        await nothing_left()

        made = await home.ask("POST", "/v1/streams", {"name": "gone", "pipeline": "test"}, 201)
        fake.fault("DELETE .*", times=1000)
        await home.ask("DELETE", "/v1/streams/gone", status=204)
        (left,) = (await home.ask("GET", "/v1/mux/leftovers"))["leftovers"]
        assert (left["stream_id"], left["passthrough"]) == (made["mux"]["stream_id"], None)
        await restart()
        await nothing_left()
