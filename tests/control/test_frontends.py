"""What front ends of the field call, and what they get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.tools import acall, call, make, until
from tests.daemon.tools import AT_ONCE, COPY, HLS, browser_chunks, live
from tests.support.daemon import Daemon, connect, daemon


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon behind a proxy that browsers know as live.example.org."""
    control = 'pipeline = "test"\npublic_url = "https://live.example.org"\n'
    with daemon(tmp_path_factory.mktemp("daemon"), COPY + AT_ONCE + HLS, control=control) as made:
        yield made


async def test_stream_create_and_the_websocket_are_enough(running: Daemon) -> None:
    """A front end that knows nothing else: create, publish to ingestUrl, ask whether it is on air."""
    made = call(running, "POST", "/stream/create").json
    assert set(made) >= {"streamKey", "playbackId", "ingestUrl", "status"}
    assert (made["status"], made["playbackId"]) == ("idle", made["name"])
    assert made["ingestUrl"] == f"ws://{running.ingest}/stream/live/{made['streamKey']}"
    status = f"/internal/stream-status/{made['playbackId']}"
    assert call(running, "GET", status).json["status"] == "OFF_AIR"
    async with connect(made["ingestUrl"]) as socket:
        for chunk in browser_chunks()[:8]:
            await socket.send_message(chunk)
        await until(running, made["name"], "live")
        told = (await acall(running, "GET", status)).json
        assert (told["status"], told["streamType"], told["viewers"]) == ("ON_AIR", "video+audio", 0)
        assert told["producers"] == [{"kind": "video", "codec": "vp8"}, {"kind": "audio", "codec": "opus"}]
    await until(running, made["name"], "ended")
    assert call(running, "GET", status).json["status"] == "OFF_AIR"


def test_stream_create_is_the_same_use_case(running: Daemon) -> None:
    """A name, a title, an idempotency key: as with /v1/streams, and the stream is found there."""
    body = {"name": "front", "title": "Front end", "enabled": False}
    first = call(running, "POST", "/stream/create", body, Idempotency_Key="front")
    again = call(running, "POST", "/stream/create", body, Idempotency_Key="front")
    assert first.body == again.body
    assert first.json["status"] == "disabled"
    assert call(running, "GET", "/v1/streams/front").json["title"] == "Front end"
    assert call(running, "GET", "/internal/stream-status/front").json["status"] == "DISABLED"
    assert call(running, "POST", "/stream/create", body).problem["status"] == 409
    assert call(running, "POST", "/stream/create", {"nmae": "x"}).problem["status"] == 422


def test_links_lead_to_where_browsers_are(public: Daemon) -> None:
    """With public_url, WebSocket and HLS are where the proxy is, over TLS."""
    made = call(public, "POST", "/stream/create").json
    assert made["ingestUrl"] == f"wss://live.example.org/stream/live/{made['streamKey']}"
    assert made["playbackUrl"] == f"https://live.example.org/hls/{made['name']}/index.m3u8"
    assert make(public, name="x")["ingest_url"].startswith("wss://live.example.org/stream/live/")


@pytest.mark.parametrize("path", ["/internal/health", "/api/health"])
def test_health(running: Daemon, path: str) -> None:
    told = call(running, "GET", path).json
    assert (told["status"], told["database"]) == ("ok", "ok")
    assert told["uptime"] > 0


def test_there_is_no_webrtc(running: Daemon) -> None:
    """And it is said honestly, with what to do instead."""
    told = call(running, "GET", "/api/mediasoup-status").json
    assert (told["available"], told["workers"]) == (False, 0)
    assert "WebSocket" in told["reason"]


@pytest.mark.parametrize("stream", ["nobody", "%00", "%ff", "x" * 3000])
def test_a_status_of_nothing_is_404(running: Daemon, stream: str) -> None:
    assert call(running, "GET", f"/internal/stream-status/{stream}").problem["status"] == 404


async def test_a_thumbnail_shows_what_is_live(running: Daemon, tmp_path: Path) -> None:
    """A JPEG at most 640 wide, the same one for five seconds; 404 before and after."""
    key = make(running, name="shown")["key"]
    path = "/v1/streams/shown/thumbnail.jpg"
    assert call(running, "GET", path).problem["status"] == 404
    async with live(running, browser_chunks(), key=key):
        await until(running, "shown", "live")
        first = await acall(running, "GET", path)
        assert (first.status, first.headers["Content-Type"]) == (200, "image/jpeg")
        assert first.body[:3] == b"\xff\xd8\xff"
        assert (await acall(running, "GET", path)).body == first.body
        await acall(running, "POST", "/v1/streams/shown/stop")
    await until(running, "shown", "ended")
    assert call(running, "GET", path).problem["status"] == 404


def test_pipelines_are_told_without_secrets(tmp_path: Path) -> None:
    """Every option as loaded; keys, and what is behind the application in a URL, are masked."""
    sink = '[[sinks]]\ntype = "rtmp"\nurl = "rtmps://me:pass@live.example.org/app/in-url"\nkey = "in-key"\n'
    with daemon(tmp_path, COPY + sink) as running:
        listed = call(running, "GET", "/v1/pipelines")
        (told,) = listed.json["pipelines"]
        assert told == call(running, "GET", "/v1/pipelines/test").json
        assert call(running, "GET", "/v1/pipelines/nothing").problem["status"] == 404
    assert (told["id"], told["video"]["codec"]) == ("test", "copy")
    (push,) = told["sinks"]
    assert (push["type"], push["key"], push["url"]) == ("rtmp", "***", "rtmps://live.example.org/app")
    for secret in (b"in-key", b"in-url", b"pass"):
        assert secret not in listed.body
