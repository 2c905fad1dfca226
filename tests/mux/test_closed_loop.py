"""The whole loop for real: sessions and FFmpeg, an RTMPS server, HTTP both ways; only Mux is a fake.

The fake hands out keys, sees at the RTMPS server who pushes with them, and tells of it by webhook.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from attrs import frozen
from quart_trio import QuartTrio

from ingestd.address import Address
from ingestd.config import Config, FfmpegConfig, MuxConfig, Pipeline, Storage, Video
from ingestd.config_file import hash_key
from ingestd.control import mux as control_mux
from ingestd.control import server
from ingestd.events import Events
from ingestd.live.journal import JournalWriter
from ingestd.live.publication import Chunk, Publication
from ingestd.live.streams import Streams
from ingestd.mux.client import MuxClient
from ingestd.mux.lifecycle import Lifecycle, Made
from ingestd.mux.loop import Linked, MuxLoop
from ingestd.mux.receiver import Receiver
from ingestd.registry.directory import Directory
from ingestd.registry.model import Stream
from ingestd.sinks.mux import MuxSink
from tests.daemon.tools import SLICE, card
from tests.mux.tools import QUICK, mux_config, opened
from tests.support.fake_mux import FakeMux, fake_mux
from tests.support.rtmps_server import RtmpServer

WITHIN = 20.0


@frozen
class Home:
    """Everything that runs, around one stream ``cam`` that was made at Mux."""

    fake: FakeMux
    client: MuxClient
    loop: MuxLoop
    streams: Streams
    made: Made
    life: Lifecycle
    seen: list[str]

    @property
    def stream_id(self) -> str:
        return self.made.link.stream_id

    @property
    def status(self) -> dict[str, Any]:
        found = self.loop.status("cam")
        assert found is not None
        return found

    async def until(self, **wanted: object) -> None:
        """Until `status` has *wanted*."""
        with trio.move_on_after(WITHIN):
            while not self.status.items() >= wanted.items():  # noqa: ASYNC110  what the API's users do
                await trio.sleep(0.02)
            return
        raise AssertionError(f"not {wanted} within {WITHIN} s: {self.status}, {self.fake.told()}")


@asynccontextmanager
async def home(
    directory: Path, rtmps: RtmpServer, ffmpeg: str, *, early: bool = False, **changes: Any
) -> AsyncIterator[Home]:
    """A stream made through `Lifecycle`, and its loop. The reconnect window is 5 s at the fake."""
    async with fake_mux() as fake:
        config = mux_config(directory, fake.api, **{"reconnect_window": 5.0, "active_within": 1.0, **changes})
        links: dict[str, Linked] = {}
        seen: list[str] = []
        async with MuxClient(config) as client, opened(directory) as database, trio.open_nursery() as nursery:
            loop = MuxLoop(config, client, links.get)
            await nursery.start(loop.run)
            fake.webhook_url, fake.early = await listen(nursery, config, loop), early
            life = Lifecycle(config, QUICK, client, database)
            async with life.creating("cam", "mux", 1.0) as made:
                links["cam"] = Linked(made.link.stream_id, frozenset({"mux"}))
            events = Events()
            events.listen(loop.hear)
            events.listen(lambda event: seen.append(event.type))
            events.tell("stream.created", "cam")
            async with trio.open_nursery() as sessions:
                writer = JournalWriter("written", 0)
                await nursery.start(writer.run)
                settled = whole(directory, rtmps, ffmpeg, config)
                streams = Streams(settled, registered(made), ffmpeg, writer, sessions, events)
                nursery.start_soon(fake.follow, rtmps)
                yield Home(fake, client, loop, streams, made, life, seen)
                streams.drain()
            await loop.drain()
            nursery.cancel_scope.cancel()


async def listen(nursery: trio.Nursery, config: MuxConfig, loop: MuxLoop) -> str:
    app = QuartTrio("test")
    app.register_blueprint(control_mux.blueprint(Receiver(config, loop.receive)))
    listeners = await nursery.start(server.serve, app, Address(host="127.0.0.1", port=0), trio.Event())
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/webhooks/mux"


def registered(made: Made) -> Directory:
    """The stream ``cam`` as the API writes it down."""
    directory = Directory()
    stream = Stream(
        name="cam", pipeline="live", key_sha256=hash_key("cam-key"), created=0, updated=0,
        targets=(made.target,), playback=made.playback, mux=made.link,
    )  # fmt: skip
    directory.put(stream)
    return directory


def whole(directory: Path, rtmps: RtmpServer, ffmpeg: str, mux: MuxConfig) -> Config:
    """A configuration whose only sink pushes to *rtmps*, with each stream's own key."""
    sink = MuxSink(
        name="mux", per_stream=True, endpoint=rtmps.rtmps_url, ca_file=str(rtmps.ca_file), timeout=1.0
    )
    video = Video(codec="h264", size=(320, 180), preset="ultrafast", keyframe_interval=0.5)
    return Config(
        path=directory / "ingestd.toml",
        storage=Storage(state_dir=directory / "var"),
        supervisor=attrs.evolve(QUICK, stall_timeout=5.0),
        ffmpeg=FfmpegConfig(path=ffmpeg),
        mux=mux,
        pipelines={"live": Pipeline(id="live", video=video, sinks=(sink,))},
    )


async def publish(streams: Streams, chunks: list[bytes]) -> Publication:
    """Send *chunks* in real time, and stay."""
    publication = streams.admit("cam-key", "test")
    start = trio.current_time()
    for number, chunk in enumerate(chunks):
        await trio.sleep_until(start + number * SLICE)
        await publication.chunks.send(Chunk(chunk))
    return publication


def over(publication: Publication) -> None:
    """The publisher says that it is done."""
    publication.leave(done=True)
    publication.chunks.close()


@pytest.mark.usefixtures("no_processes_left")
async def test_a_broadcast_from_create_to_complete(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """Made, pushed with its key, active, ended: RTMPS closes first, then Mux ends the recording at once."""
    chunks = await card(ffmpeg, 3)
    async with home(tmp_path, rtmp_server, ffmpeg) as all_:
        await all_.until(status="unknown", warning=None)
        publication = await publish(all_.streams, chunks)
        await all_.until(status="active", warning=None)
        over(publication)
        began = time.monotonic()
        await all_.until(status="idle")
        assert time.monotonic() - began < 5, "the reconnect window was waited for"
        await all_.loop.drain()
        assert rtmp_server.connections(all_.made.target.key) == 1
        assert all_.fake.completed_early == [False]
        told = all_.fake.told(all_.stream_id)
        assert told == ["created", "connected", "recording", "active", "disconnected", "idle"]
        assert all_.fake.requests.count(f"PUT /video/v1/live-streams/{all_.stream_id}/complete") == 1
        assert all_.seen.index("sink.stopped") < all_.seen.index("stream.ended")
        assert set(all_.fake.answers) == {204}


@pytest.mark.usefixtures("no_processes_left")
async def test_a_hand_over_leaves_the_recording_open(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """Nothing is completed: the next daemon goes on."""
    chunks = await card(ffmpeg, 3)
    async with home(tmp_path, rtmp_server, ffmpeg) as all_:
        publication = await publish(all_.streams, chunks)
        await all_.until(status="active")
        all_.streams.sessions["cam"].hand_over()
        await publication.wait_closing()
        publication.chunks.close()
        await all_.until(status="disconnected")
        await all_.loop.drain()
        assert not [line for line in all_.fake.requests if line.endswith("/complete")]
        assert all_.fake.streams[all_.stream_id]["status"] == "active"


@pytest.mark.usefixtures("no_processes_left")
async def test_without_webhooks_mux_is_asked(tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str) -> None:
    """The endpoint is not set up in Mux's dashboard, or nobody can reach it."""
    chunks = await card(ffmpeg, 3)
    async with home(tmp_path, rtmp_server, ffmpeg, poll_every=1.0) as all_:
        all_.fake.webhooks = False
        publication = await publish(all_.streams, chunks)
        await all_.until(status="active", warning=None)
        over(publication)
        await all_.fake.wait_for(all_.stream_id, "idle")


@pytest.mark.usefixtures("no_processes_left")
async def test_pushing_into_the_void_is_warned_of(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """Mux has disabled the live stream, and the RTMPS server takes what we push all the same."""
    chunks = await card(ffmpeg, 4)
    async with home(tmp_path, rtmp_server, ffmpeg) as all_:
        await all_.client.disable(all_.stream_id)
        publication = await publish(all_.streams, chunks)
        await all_.until(warning="disabled_while_pushing")
        over(publication)
        await all_.until(warning=None)


async def test_a_webhook_that_is_faster_than_the_answer(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """``created`` comes before the create was answered; it is kept, and no error."""
    async with home(tmp_path, rtmp_server, ffmpeg, early=True) as all_:
        assert all_.fake.answers == [204]
        assert all_.loop.inbox.held == 0


async def test_webhooks_twice_forged_late_and_out_of_order(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """Whatever comes over the wire: the newest true one stands."""
    async with home(tmp_path, rtmp_server, ffmpeg) as all_:
        fake, now = all_.fake, time.time()
        idle, active, old = (
            fake.event(f"video.live_stream.{what}", all_.stream_id, at=now + at)
            for what, at in (("idle", 2), ("active", 3), ("disabled", 1))
        )
        assert await fake.deliver(active) == 204
        assert await fake.deliver(idle) == 204
        assert await fake.deliver(active) == 204
        assert await fake.deliver(old) == 204
        assert all_.status["status"] == "active"
        forged = fake.event("video.live_stream.deleted", all_.stream_id, at=now + 9)
        assert await fake.deliver(forged, secret="guessed") == 401
        assert await fake.deliver(forged, signed_at=now - 600) == 401
        assert all_.status["status"] == "active"
