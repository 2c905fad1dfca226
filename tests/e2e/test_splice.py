"""Another recorder on the same socket: other codec, other size; the program and its sinks go on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ingestd.media.frames import Header
from ingestd.media.webm_demux import Demuxer
from tests.e2e.test_faults import RECORDING
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, continuous, decode_errors, duration, read_video
from tests.support.daemon import daemon, publish
from tests.support.rtmps_server import RtmpServer

PIPELINE = """
[video]
codec = "h264"
size = "640x360"
preset = "ultrafast"
[[sinks]]
type = "file"
format = "mkv"
[[sinks]]
type = "hls"
window = 0
[[sinks]]
type = "rtmp"
url = "{url}"
key = "cam"
"""


def whole(name: str) -> list[bytes]:
    """A capture as a recorder ends it that was stopped: the trimmed ones end one byte into an element."""
    *chunks, last = capture(name).chunks()
    return [*chunks, last[:-1]]


@pytest.mark.parametrize(
    "each_ffmpeg", ["system", pytest.param("embedded", marks=pytest.mark.full)], indirect=True
)
async def test_another_codec_and_size_go_on_in_the_same_program(
    tmp_path: Path, rtmp_server: RtmpServer, each_ffmpeg: str
) -> None:
    """VP8, VP9, H.264 and a smaller picture in turn: one recording, one RTMP connection, one HLS."""
    names = (
        "cv-vp8-250.webm",
        "cv-vp9-250.webm",
        "cv-h264webm-100.mkv",
        "gum-vp8-resize.webm",
        "cv-vp8-250.webm",
    )
    chunks = [chunk for name in names for chunk in whole(name)]
    config = f'[ffmpeg]\npath = "{each_ffmpeg}"\n'
    with daemon(tmp_path / "run", PIPELINE.format(url=rtmp_server.rtmp_url), config=config) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert [s["restarts"] for s in status["sinks"]] == [0, 0, 0], status
    assert status["encoder"]["restarts"] == 0
    rtmp_server.wait_idle()
    (flv,) = rtmp_server.recordings("cam")
    (mkv,) = running.recordings
    frames = read_video(mkv)
    for output in (mkv, running.playlist, flv):
        assert decode_errors(output) == []
        assert_same_frames(read_video(output), frames)
    assert continuous(frames)
    assert max(b - a for (a, _), (b, _) in pairwise(frames)) < 0.035


@pytest.mark.parametrize(
    "each_ffmpeg", ["system", pytest.param("embedded", marks=pytest.mark.full)], indirect=True
)
async def test_tracks_that_come_and_go_are_filled(
    tmp_path: Path, rtmp_server: RtmpServer, each_ffmpeg: str
) -> None:
    """Sound only, picture only, and both again: black and silence stand in, and every connection stays."""
    names = ("cv-vp8-250.webm", "gum-audio-250.webm", "gum-vp8-videoonly-250.webm", "cv-vp8-250.webm")
    chunks = [chunk for name in names for chunk in whole(name)]
    config = f'[ffmpeg]\npath = "{each_ffmpeg}"\n'
    with daemon(tmp_path / "run", PIPELINE.format(url=rtmp_server.rtmp_url), config=config) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert [s["restarts"] for s in status["sinks"]] == [0, 0, 0], status
    rtmp_server.wait_idle()
    (flv,) = rtmp_server.recordings("cam")
    (mkv,) = running.recordings
    frames = read_video(mkv)
    for output in (mkv, running.playlist, flv):
        assert decode_errors(output) == []
        assert_same_frames(read_video(output), frames)
        assert duration(output) == pytest.approx(frames[-1][0], abs=0.2)
    assert continuous(frames)
    assert max(b - a for (a, _), (b, _) in pairwise(frames)) < 0.035


@pytest.mark.parametrize("name", ["gum-audio-250.webm", "gum-vp8-videoonly-250.webm"])
async def test_a_source_with_one_track_becomes_a_program_with_both(tmp_path: Path, name: str) -> None:
    """An RTMP target always gets picture and sound."""
    with daemon(tmp_path / "run", PIPELINE.partition("[[sinks]]")[0] + RECORDING) as running:
        await publish(running.publish_url, capture(name).chunks())
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    (mkv,) = running.recordings
    assert decode_errors(mkv) == []
    assert continuous(read_video(mkv))
    (header,) = [event for event in Demuxer().feed(mkv.read_bytes()) if isinstance(event, Header)]
    assert [track.codec for track in header.tracks] == ["h264", "aac"]
    source = duration(capture(name).path)
    assert duration(mkv) == pytest.approx(source, abs=0.2)
