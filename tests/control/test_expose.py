"""``/internal/videoExpose``: FFmpeg, curl, OpenCV and a script read a live stream from its middle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path

import pytest
import trio

from ingestd.media.frames import Frame, Header
from ingestd.media.webm_demux import Demuxer
from tests.control.tools import acall, call, eventually, until
from tests.daemon.tools import AT_ONCE, COPY, RAW, live
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program

CODECS = {
    "vp8": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "h264": ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"),
}
MEDIA = {"vp8": "video/webm", "h264": "video/x-matroska"}
PATH = "/internal/videoExpose"

#: What somebody would write who has OpenCV and a URL.
SCRIPT = """
import sys, cv2
source = cv2.VideoCapture(sys.argv[1])
sizes = set()
for _ in range(20):
    found, picture = source.read()
    assert found
    sizes.add(picture.shape)
print(len(sizes), picture.mean() > 1)
"""

each_codec = pytest.mark.parametrize("codec", CODECS)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a second stream, which few may read at once."""
    second = '[streams.second]\nkey = "second-key"\npipeline = "test"\n'
    with daemon(
        tmp_path_factory.mktemp("daemon"), COPY + AT_ONCE + RAW, config=second, control="max_pulls = 3\n"
    ) as made:
        yield made


@cache
def media(codec: str) -> list[bytes]:
    """Twenty seconds of a test picture and a tone, in pieces of a quarter of a second or so."""
    asked = [
        program("ffmpeg"), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=30",
        "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "20", *CODECS[codec], "-g", "30",
        "-c:a", "libopus", "-f", "matroska", "-cluster_time_limit", "250", "-live", "1", "-",
    ]  # fmt: skip
    data = subprocess.run(asked, check=True, capture_output=True).stdout
    size = -(-len(data) // 80)
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


@asynccontextmanager
async def on_air(running: Daemon, codec: str, stream: str = "cam") -> AsyncIterator[None]:
    """A publisher of *codec* in real time, for the time of the block."""
    chunks = await trio.to_thread.run_sync(media, codec)
    async with live(running, chunks, key=f"{stream}-key"):
        await until(running, stream, "live")
        yield
        await acall(running, "POST", f"/v1/streams/{stream}/stop")
        await until(running, stream, "ended")


def pulled(running: Daemon, size: int, query: str = "") -> tuple[str, bytes, str]:
    """Content type, the first *size* bytes, and which stream it is."""
    host, _, port = running.control.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("GET", PATH + query)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return response.headers["Content-Type"], response.read(size), response.headers["X-Stream"]
    finally:
        connection.close()


@each_codec
async def test_ffmpeg_opencv_curl_and_a_script_read_it(
    codec: str, two: Daemon, tmp_path: Path, ffmpeg: str
) -> None:
    """In the middle of a stream, without being told what it is; the first frame of all is decoded."""
    url = f"http://{two.control}{PATH}"
    async with on_air(two, codec):
        await trio.sleep(2.5)
        frames = tmp_path / "frames"
        asked = [
            ffmpeg,
            "-v",
            "error",
            "-xerror",
            "-i",
            url,
            "-map",
            "0:v",
            "-frames:v",
            "30",
            "-f",
            "framemd5",
            str(frames),
        ]
        await trio.run_process(asked, capture_stderr=True)
        lines = [line for line in frames.read_text().splitlines() if not line.startswith("#")]
        assert len(lines) == 30
        assert lines[0].split(",")[2].strip() == "0"
        seen = await trio.run_process(
            [sys.executable, "-c", SCRIPT, url], capture_stdout=True, capture_stderr=True
        )
        assert seen.stdout.decode().split() == ["1", "True"]
        curled = tmp_path / "curled"
        await trio.run_process(
            ["curl", "-sS", "-m", "2", "-o", str(curled), url], check=False, capture_stderr=True
        )
        assert curled.read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
        media, body, stream = await trio.to_thread.run_sync(pulled, two, 60_000)
    assert (media, stream) == (MEDIA[codec], "cam")
    for data in (body, curled.read_bytes()):
        events = Demuxer(max_frame=2**24).feed(data)
        tracks = next(event.tracks for event in events if isinstance(event, Header))
        first = next(event for event in events if isinstance(event, Frame))
        assert {track.codec for track in tracks} == {codec, "opus"}
        assert (first.keyframe, first.timestamp) == (True, 0)
        assert next(track.kind for track in tracks if track.number == first.track) == "video"


async def test_the_newest_is_meant_unless_one_is_named(two: Daemon) -> None:
    """Of two that are live the one that went on air last; 404 with how all stand when nothing is."""
    refused = call(two, "GET", PATH)
    assert refused.status == 404
    assert {each["name"]: each["state"] in ("idle", "ended") for each in refused.problem["streams"]} == {
        "cam": True, "second": True,
    }  # fmt: skip
    assert call(two, "GET", f"{PATH}?stream=nobody").problem["status"] == 404
    assert call(two, "GET", f"{PATH}?stream=cam").problem["status"] == 404
    async with on_air(two, "vp8"), on_air(two, "h264", "second"):
        for query, stream in (("", "second"), ("?stream=cam", "cam"), ("?stream=second", "second")):
            assert (await trio.to_thread.run_sync(pulled, two, 100, query))[2] == stream


async def test_it_ends_with_the_session(two: Daemon) -> None:
    """The body is complete then: a reader sees the end of the file, no error. What came is whole."""
    host, _, port = two.control.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=20)
    async with on_air(two, "vp8"):
        connection.request("GET", PATH)
        response = await trio.to_thread.run_sync(connection.getresponse)
        await trio.sleep(1)
    data = await trio.to_thread.run_sync(response.read)
    connection.close()
    demuxer = Demuxer(max_frame=2**24)
    events = [*demuxer.feed(data), *demuxer.close()]
    assert sum(isinstance(event, Frame) for event in events) > 20


async def test_no_more_readers_than_allowed(two: Daemon) -> None:
    """One more is 503 with Retry-After, and a place that was left can be taken; HEAD takes none."""
    host, _, port = two.control.rpartition(":")
    async with on_air(two, "vp8"):
        readers = []
        for _ in range(3):
            reader = HTTPConnection(host, int(port), timeout=20)
            reader.request("GET", PATH)
            assert (await trio.to_thread.run_sync(reader.getresponse)).status == 200
            readers.append(reader)
        refused = await acall(two, "GET", PATH)
        assert refused.problem["status"] == 503
        assert refused.headers["Retry-After"]
        for reader in readers:
            reader.close()
        await eventually(lambda: call(two, "HEAD", PATH).status == 200)
        for _ in range(5):
            assert (await acall(two, "HEAD", PATH)).status == 200


async def test_a_reader_that_reads_nothing_holds_nobody_up(two: Daemon) -> None:
    """The stream goes on, and ends when it is asked to."""
    host, _, port = two.control.rpartition(":")
    stuck = HTTPConnection(host, int(port), timeout=20)
    async with on_air(two, "vp8"):
        stuck.request("GET", PATH)
        before = (await acall(two, "GET", "/v1/streams/cam")).json["chunks"]
        await trio.sleep(2)
        after = (await acall(two, "GET", "/v1/streams/cam")).json
        assert after["chunks"] > before + 3
        assert after["state"] == "live"
    stuck.close()
