"""Chromium publishes by itself, and what it sent is in every output: the same frames, sound in its place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_captures import ALL_SINKS, control_run
from tests.support.counting import (
    NO_NUMBER,
    assert_same_frames,
    av_offset,
    continuous,
    decode_errors,
    duration,
    header_duration,
    read_beeps,
    read_video,
)
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program
from tests.support.publisher import VP8, Published, publish
from tests.support.rtmps_server import RtmpServer

#: A frame at 30 fps: a fixed-rate output can only be so exact.
FRAME = 1 / 30

MIMES = [
    pytest.param(VP8, id="vp8"),
    pytest.param("video/webm;codecs=vp9,opus", marks=pytest.mark.full, id="vp9"),
    pytest.param("video/webm;codecs=h264,opus", marks=pytest.mark.full, id="h264"),
    pytest.param("video/webm;codecs=av1,opus", marks=pytest.mark.full, id="av1"),
]


async def live_run(
    directory: Path, server: RtmpServer, seconds: float, mime: str, source: str
) -> tuple[Daemon, Published, list[Path]]:
    """Chromium into every sink, live; returns the outputs: MKV, MP4, HLS playlist, FLV."""
    pipeline = ALL_SINKS.format(url=server.rtmps_url, ca=server.ca_file)
    with daemon(directory, pipeline) as running:
        sent = await publish(running.publish_url, seconds, mime, source=source)
        assert (sent.close_code, sent.errors) == (1000, [])
        status = await running.wait_ended()
    assert (status["state"], status["cause"]) == ("ended", None)
    assert [(s["name"], s["state"], s["restarts"], s["last_error"]) for s in status["sinks"]] == [
        (name, "stopped", 0, None) for name in ("raw", "mkv", "mp4", "hls", "rtmp")
    ]
    assert (status["encoder"]["restarts"], status["encoder"]["state"]) == (0, "stopped")
    server.wait_idle()
    (flv,) = server.recordings("cam")
    (raw,) = [path for path in running.recordings if "-source-" in path.name]
    assert raw.read_bytes() == sent.data
    mkv, mp4 = sorted((path for path in running.recordings if path != raw), key=lambda path: path.suffix)
    return running, sent, [mkv, mp4, running.playlist, flv]


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("mime", MIMES)
async def test_chromium_publishes_to_every_sink(tmp_path: Path, rtmp_server: RtmpServer, mime: str) -> None:
    """MKV, MP4, HLS and RTMPS show the control run's frames, without an error, in sync, in full."""
    _, sent, outputs = await live_run(tmp_path / "live", rtmp_server, 8.0, mime, "canvas")
    source = tmp_path / "source.webm"
    source.write_bytes(sent.data)
    control = await control_run(tmp_path / "control", sent.chunks)
    frames = read_video(control)
    assert continuous(frames)
    assert NO_NUMBER not in {number for _, number in frames}
    assert len(read_beeps(source)) >= 5
    offset, length = av_offset(source), duration(source)
    for output in outputs:
        assert decode_errors(output) == [], output
        assert_same_frames(read_video(output), frames)
        assert av_offset(output) == pytest.approx(offset, abs=0.050), output
        assert duration(output) == pytest.approx(length, abs=FRAME + 0.024), output
    # Each picture that the browser sent is shown at its time, to the frame.
    seen = dict.fromkeys(number for _, number in read_video(source))
    assert set(seen) >= {number for _, number in frames}
    for stated in (header_duration(outputs[0]), header_duration(outputs[1])):
        assert stated == pytest.approx(length, abs=0.1)


@pytest.mark.usefixtures("no_processes_left")
async def test_chromiums_camera_publishes_to_every_sink(tmp_path: Path, rtmp_server: RtmpServer) -> None:
    """The fake camera and microphone: each output decodes cleanly to the control run's very pictures."""
    _, sent, outputs = await live_run(tmp_path / "live", rtmp_server, 5.0, VP8, "camera")
    control = await control_run(tmp_path / "control", sent.chunks)
    source = tmp_path / "source.webm"
    source.write_bytes(sent.data)
    pictures = picture_hashes(control)
    assert len(pictures) > 100
    assert len({digest for _, digest in pictures}) > 50
    for output in outputs:
        assert decode_errors(output) == [], output
        got = picture_hashes(output)
        assert [digest for _, digest in got] == [digest for _, digest in pictures], output
        assert [at for at, _ in got] == pytest.approx([at for at, _ in pictures], abs=0.002), output
        assert duration(output) == pytest.approx(duration(source), abs=FRAME + 0.024), output


def picture_hashes(path: Path) -> list[tuple[float, str]]:
    """(pts in seconds, hash of the decoded picture) of every frame."""
    argv = [program("ffmpeg"), "-nostdin", "-v", "error", "-copyts", "-i", str(path), "-map", "0:v:0"]
    argv += ["-fps_mode", "passthrough", "-enc_time_base", "1/90000", "-f", "framehash", "-hash", "md5", "-"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    rows = [line.split(",") for line in done.stdout.splitlines() if not line.startswith("#")]
    return [(int(row[2]) / 90000, row[5].strip()) for row in rows]
