"""Each capture of a real browser, through the real daemon, to every sink, against a run without company."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.captures import Capture, captures
from tests.support.counting import (
    assert_same_frames,
    av_offset,
    continuous,
    decode_errors,
    duration,
    read_beeps,
    read_video,
)
from tests.support.daemon import daemon, publish
from tests.support.rtmps_server import RtmpServer

ALL_SINKS = """
[video]
codec = "h264"
size = "640x360"
preset = "ultrafast"

[[sinks]]
type = "file"
format = "raw"
name = "raw"
[[sinks]]
type = "file"
format = "mkv"
name = "mkv"
[[sinks]]
type = "file"
format = "mp4"
name = "mp4"
[[sinks]]
type = "hls"
window = 0
[[sinks]]
type = "rtmp"
url = "{url}"
ca_file = "{ca}"
key = "cam"
"""

CONTROL = """
[video]
codec = "h264"
size = "640x360"
preset = "ultrafast"

[[sinks]]
type = "file"
format = "mkv"
"""

#: WebM, MP4, and without pictures; Matroska is in test_changes.py. The others are for the long run.
SHORT = {
    "cv-vp8-restart.webm",
    "cv-mp4avc-250.mp4",
    "gum-audio-250.webm",
}


async def control_run(directory: Path, chunks: list[bytes], pipeline: str = CONTROL) -> Path:
    """The recording of a run of its own, without faults and without other sinks."""
    with daemon(directory, pipeline) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
        assert status["state"] == "ended", status
    (recording,) = running.recordings
    return recording


@pytest.mark.parametrize(
    "capture",
    [
        pytest.param(each, id=each.name, marks=() if each.name in SHORT else pytest.mark.full)
        for each in captures(webm_only=False)
    ],
)
async def test_a_capture_reaches_every_sink_with_the_control_runs_frames(
    tmp_path: Path, rtmp_server: RtmpServer, capture: Capture
) -> None:
    """Recording, MP4, HLS and RTMPS show the control run's frames, decode cleanly and keep sound in place."""
    chunks = capture.chunks()
    control = await control_run(tmp_path / "control", chunks)
    pipeline = ALL_SINKS.format(url=rtmp_server.rtmps_url, ca=rtmp_server.ca_file)
    with daemon(tmp_path / "all", pipeline) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
        assert status["state"] == "ended", status
        assert {s["name"]: s["state"] for s in status["sinks"]} == dict.fromkeys(
            ("raw", "mkv", "mp4", "hls", "rtmp"), "stopped"
        )
        assert all(s["last_error"] is None for s in status["sinks"]), status
    rtmp_server.wait_idle()
    (flv,) = rtmp_server.recordings("cam")
    raw = [path for path in running.recordings if "-source-" in path.name]
    (mkv,) = [path for path in running.recordings if path.suffix == ".mkv" and path not in raw]
    (mp4,) = [path for path in running.recordings if path.suffix == ".mp4" and path not in raw]
    assert [path.read_bytes() for path in raw] == capture.recorders()
    outputs = (mkv, mp4, running.playlist, flv)
    for output in outputs:
        assert decode_errors(output) == [], output
    if capture.about["width"] is None:
        beeps = read_beeps(control)
        for output in outputs:
            assert read_beeps(output) == pytest.approx(beeps, abs=0.005), output
        return
    frames = read_video(control)
    assert continuous(frames)
    for output in outputs:
        assert_same_frames(read_video(output), frames)
    if capture.name.startswith("cv-") and len(read_beeps(control)) > 1:
        assert av_offset(control) == pytest.approx(av_offset(capture.path), abs=0.050)
    assert duration(mkv) == pytest.approx(duration(control), abs=0.05)
