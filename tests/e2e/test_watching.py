"""Watching a real daemon: what browsers sent comes out whole, for all who watch, whoever is slow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Frame, Header, Kind
from tests.control.tools import acall
from tests.daemon.tools import COPY
from tests.sources.receiving import BINARY, Client, frame
from tests.support.captures import capture
from tests.support.daemon import Daemon, connect, daemon
from tests.support.viewer import Watcher, connected, decoded, watching

#: A publisher may be away for so long that a test can look on.
PIPELINE = COPY + '[publisher]\nreconnect_window = "3s"\n'
SPEED = 4.0
CODECS = {
    "cv-vp8-250.webm": 'video/webm;codecs="vp8,opus"',
    "cv-vp9-250.webm": 'video/webm;codecs="vp09.00.31.08,opus"',
    "cv-av1-250.webm": 'video/webm;codecs="av01.0.09M.08,opus"',
    "cv-h264webm-100.mkv": 'video/mp4;codecs="avc1.42C020,opus"',
    "cv-mp4avc-250.mp4": 'video/mp4;codecs="avc1.42C020,opus"',
}
VP8 = "cv-vp8-250.webm"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("daemon"), PIPELINE) as made:
        yield made


@asynccontextmanager
async def on_air(
    running: Daemon, name: str, chunks: int | None = None, *, key: str = "cam-key"
) -> AsyncIterator[trio.Event]:
    """A publisher that replays a capture, faster than it was; the event tells that it has sent all."""
    found, sent = capture(name), trio.Event()
    url = f"ws://{running.ingest}/stream/live/{key}"
    async with connect(url) as socket, trio.open_nursery() as nursery:

        async def send() -> None:
            start = trio.current_time()
            for data, at in list(zip(found.chunks(), found.times(), strict=True))[:chunks]:
                await trio.sleep_until(start + at / SPEED)
                await socket.send_message(data)
            sent.set()

        nursery.start_soon(send)
        yield sent
        nursery.cancel_scope.cancel()


def pictures(data: bytes) -> list[tuple[int, bool]]:
    """Time and keyframe of each picture in *data*."""
    demuxer, kinds = SniffingDemuxer(max_frame=2**24), {}
    found = []
    for event in [*demuxer.feed(data), *demuxer.close()]:
        if isinstance(event, Header):
            kinds = {track.number: track.kind for track in event.tracks}
        elif isinstance(event, Frame) and kinds[event.track] is Kind.VIDEO:
            found.append((event.timestamp, event.keyframe))
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] if name.endswith("mp4") else []) for name in CODECS],
)
async def test_a_stream_is_seen_whole_and_from_the_middle(name: str, running: Daemon, tmp_path: Path) -> None:
    """Who was there first gets every frame; who joins gets all from a keyframe on. FFmpeg decodes both."""
    whole, _ = decoded(tmp_path / "whole", capture(name).data())
    async with watching(running.ingest) as first:
        assert (await first.until_told("waiting"))["state"] in ("idle", "ended")
        async with on_air(running, name) as sent:
            enough = min(8, len(capture(name).chunk_list) // 2)
            await first.until(lambda watcher: watcher.media >= enough)
            async with watching(running.ingest) as late:
                await sent.wait()
                await acall(running, "POST", "/v1/streams/cam/stop")
                await first.until_told("ended")
                await late.until_told("ended")
        await running.wait_ended()
    ((part,), (joined,)) = first.parts, late.parts
    assert part.told["media"] == joined.told["media"] == CODECS[name]
    assert (part.told["time"], part.told["session"]) == (0, joined.told["session"])
    assert decoded(tmp_path / "first", part.data) == (whole, "")
    count, complaints = decoded(tmp_path / "late", joined.data)
    assert complaints == ""
    assert 0 < count <= whole
    begins, keyframe = pictures(joined.data)[0]
    assert keyframe
    assert begins / 1e6 == pytest.approx(joined.told["time"], abs=1)
    # From there on both have the very same messages.
    assert part.media[-len(joined.media) :] == joined.media
    assert (first.of("skipped"), late.of("skipped")) == ([], [])
    assert [told["state"] for told in first.of("waiting")][-1] == "ended"
    clock = first.of("clock")[0]
    assert abs(clock["wall"] / 1000 - time.time()) < 60
    assert clock["time"] >= 0


async def test_thirty_viewers_get_the_same_bytes(running: Daemon) -> None:
    """And are counted while they are there."""
    async with trio.open_nursery() as nursery:
        watchers: list[Watcher] = []

        async def watch(*, task_status: Any) -> None:
            async with watching(running.ingest) as watcher:
                task_status.started(watcher)
                await watcher.until_told("ended")

        for _ in range(30):
            watchers.append(await nursery.start(watch))
        async with on_air(running, VP8, 20) as sent:
            await sent.wait()
            status = (await acall(running, "GET", "/v1/streams/cam")).json
            assert status["viewers"] == 30
            assert (await acall(running, "GET", "/v1/playback/cam")).json["viewers"] == 30
            assert (await acall(running, "GET", "/internal/stream-status/cam")).json["viewers"] == 30
            await acall(running, "POST", "/v1/streams/cam/stop")
    assert len({watcher.parts[0].data for watcher in watchers}) == 1
    await running.wait_until(lambda status: status["viewers"] == 0)
    await running.wait_ended()
    metrics = (await acall(running, "GET", "/metrics")).body.decode()
    assert 'ingestd_stream_viewers{stream="cam"} 0.0' in metrics
    assert "ingestd_viewers 0.0" in metrics


async def raw_publisher(running: Daemon) -> Client:
    """One that can be cut off without a word."""
    client = await connected(running.ingest)
    assert await client.upgrade("/stream/live/cam-key") == 101
    return client


async def test_a_publisher_that_comes_back_is_told_and_goes_on(running: Daemon, tmp_path: Path) -> None:
    """On one timeline and with the same init segment: what all of it is, FFmpeg decodes as one."""
    chunks = capture(VP8).chunks()
    async with watching(running.ingest) as watcher:
        async with (await raw_publisher(running)).stream as stream:
            for chunk in chunks[:8]:
                await stream.send_all(frame(BINARY, chunk))
            await watcher.until(lambda w: w.media >= 5)
        assert await watcher.until_told("interrupted") == {"type": "interrupted"}
        async with watching(running.ingest) as late:
            await late.until_told("interrupted")
            assert late.media, "who comes now sees what there was last"
            async with on_air(running, VP8, 8) as sent:
                assert await watcher.until_told("resumed") == {"type": "resumed"}
                await late.until_told("resumed")
                await sent.wait()
                await acall(running, "POST", "/v1/streams/cam/stop")
                await watcher.until_told("ended")
    (part,) = watcher.parts
    assert len(late.parts) == 1
    times = [at for at, _ in pictures(part.data)]
    assert times == sorted(times)
    count, complaints = decoded(tmp_path / "all", part.data)
    assert (count, complaints) == (len(times), "")
    order = [told["type"] for told in watcher.told if told["type"] not in ("clock", "waiting")]
    assert order == ["init", "interrupted", "resumed", "ended"]
    await running.wait_ended()


async def test_a_viewer_stays_from_session_to_session(running: Daemon, tmp_path: Path) -> None:
    """Each is an `init` of its own: of another codec, and of the same one."""
    async with watching(running.ingest) as watcher:
        for number, name in enumerate((VP8, "cv-h264webm-100.mkv", "cv-h264webm-100.mkv"), 1):
            async with on_air(running, name, 12) as sent:
                await sent.wait()
                await acall(running, "POST", "/v1/streams/cam/stop")
                ended = await watcher.until_told("ended", number)
                assert ended == {"type": "ended", "cause": "stopped by the API", "recording": None}
            await running.wait_ended()
    assert [part.told["media"] for part in watcher.parts] == [
        CODECS[VP8], *2 * [CODECS["cv-h264webm-100.mkv"]]
    ]  # fmt: skip
    assert len({part.told["session"] for part in watcher.parts}) == 3
    for part in watcher.parts:
        count, complaints = decoded(tmp_path / "part", part.data)
        assert count > 20
        assert complaints == ""


async def test_plain_http_is_the_same_media(running: Daemon, tmp_path: Path) -> None:
    """One body from a random access point on, that ends with the session; it waits for a publisher."""
    client = await connected(running.ingest)
    async with client.stream:
        await client.send(f"GET /stream/watch/cam HTTP/1.1\r\nHost: {running.ingest}\r\n\r\n".encode())
        async with on_air(running, VP8) as sent:
            assert await client.status() == 200
            head = client.head.decode().lower()
            assert "content-type: video/webm\r\n" in head
            assert "access-control-allow-origin: *" in head
            await sent.wait()
            await acall(running, "POST", "/v1/streams/cam/stop")
            assert await client.end() == "closed"
    whole, _ = decoded(tmp_path / "whole", capture(VP8).data())
    assert decoded(tmp_path / "body", bytes(client._buffer)) == (whole, "")
    await running.wait_ended()


async def heavy(ffmpeg: str, seconds: int) -> list[bytes]:
    """A picture that is hard to compress and a tone, a keyframe a second, in pieces of a quarter of one."""
    argv = [
        ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=60:allf=t",
        "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", str(seconds), "-c:v", "libvpx", "-b:v", "6M",
        "-deadline", "realtime", "-cpu-used", "8", "-g", "25", "-c:a", "libopus", "-f", "webm",
        "-cluster_time_limit", "250", "-live", "1", "-",
    ]  # fmt: skip
    data = (await trio.run_process(argv, capture_stdout=True)).stdout
    size = -(-len(data) // (4 * seconds))
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


async def test_a_slow_viewer_is_cut_forward_and_the_others_see_nothing_of_it(
    tmp_path: Path, ffmpeg: str
) -> None:
    """The fast one gets every frame; the slow one is told what it missed, and goes on with a keyframe."""
    chunks = await heavy(ffmpeg, 5)
    config = '[viewers]\nmemory = "1MiB"\nmax_lag = "500ms"\nsend_buffer = "16KiB"\n'
    with daemon(tmp_path, PIPELINE, config=config) as running:
        slow = await connected(running.ingest, buffer=4096)
        async with slow.stream, watching(running.ingest) as fast, watching(running.ingest) as other:
            assert await slow.upgrade("/stream/watch/cam", Host=running.ingest) == 101
            async with connect(running.publish_url) as socket:
                for number, chunk in enumerate(chunks):
                    await socket.send_message(chunk)
                    await fast.until(lambda w, n=number: w.media >= n)
                await acall(running, "POST", "/v1/streams/cam/stop")
                await fast.until_told("ended")
                await other.until_told("ended")
                watcher = Watcher(slow)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watcher.run)
                    await watcher.until_told("ended")
                    nursery.cancel_scope.cancel()
        assert fast.parts[0].data == other.parts[0].data
        assert fast.of("skipped") == []
        whole, _ = decoded(tmp_path / "whole", b"".join(chunks))
        assert decoded(tmp_path / "fast", fast.parts[0].data) == (whole, "")
        missed = watcher.of("skipped")
        assert missed
        frames = sum(told["frames"] for told in missed)
        (part,) = watcher.parts
        assert 0 < len(part.media) < len(fast.parts[0].media)
        # What it has is of the same messages, and decodes, but for the hole.
        assert set(part.media) < set(fast.parts[0].media)
        status = running.status()
        assert status["source"]["frames"] == frames_in(part.data) + frames
        left = running.events("viewer_skipped")
        assert sum(event["frames"] for event in left) == frames
        metrics = (await acall(running, "GET", "/metrics")).body.decode()
        assert f'ingestd_stream_viewer_skipped_frames_total{{stream="cam"}} {frames}.0' in metrics


def frames_in(data: bytes) -> int:
    demuxer = SniffingDemuxer(max_frame=2**24)
    return sum(isinstance(event, Frame) for event in [*demuxer.feed(data), *demuxer.close()])
