"""Sources that need no encoder: what is passed on as it is, and when that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import trio

from tests.e2e.test_faults import RECORDING, in_real_time, libx264_processes
from tests.support.captures import captures
from tests.support.counting import assert_same_frames, continuous, decode_errors, read_video
from tests.support.daemon import daemon, publish

HLS = '[[sinks]]\ntype = "hls"\nwindow = 0\n'


async def test_h264_under_auto_is_not_encoded(tmp_path: Path) -> None:
    """A browser's H.264 goes to HLS, RTMP and files as it is: no libx264 runs, only its sound is encoded."""
    capture = next(c for c in captures() if "h264" in c.name and c.name.startswith("cv-"))
    pipeline = RECORDING + HLS + '[[sinks]]\ntype = "file"\nformat = "mp4"\nname = "mp4"\n'
    with daemon(tmp_path / "run", pipeline) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: publish(running.publish_url, capture.chunks(), at=capture.times()))
            status = await running.wait_until(
                lambda s: bool(s["sinks"]) and all(x["state"] == "running" for x in s["sinks"])
            )
            assert libx264_processes(running.process.pid) == 0
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    source = read_video(capture.path)
    expected = [(pts - source[0][0], number) for pts, number in source]
    (mkv,) = [path for path in running.recordings if path.suffix == ".mkv"]
    assert_same_frames(read_video(mkv), expected)
    assert_same_frames(read_video(running.playlist), expected)


async def test_what_every_sink_takes_needs_no_ffmpeg(tmp_path: Path) -> None:
    """VP8 and Opus into a Matroska file alone: nothing is encoded, no process is started."""
    capture = next(c for c in captures() if c.name == "cv-vp8-250.webm")
    with daemon(tmp_path / "run", RECORDING) as running:
        await publish(running.publish_url, capture.chunks())
        status = await running.wait_ended()
    assert status["encoder"] is None
    assert running.events("child_started") == []
    (mkv,) = running.recordings
    assert_same_frames(read_video(mkv), read_video(capture.path))


def rare_keyframes(ffmpeg: str, seconds: int) -> list[bytes]:
    """H.264 and Opus in Matroska with one keyframe, at the start, cut into pieces of about 0.3 s."""
    made = subprocess.run(
        [ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s=320x180:r=30:d={seconds}",
         "-f", "lavfi", "-i", f"sine=d={seconds}", "-c:v", "libx264", "-preset", "ultrafast",
         "-tune", "zerolatency", "-g", "9999", "-pix_fmt", "yuv420p", "-c:a", "libopus", "-b:v", "300k",
         "-f", "matroska", "-cluster_time_limit", "300", "-live", "1", "-"],
        check=True, capture_output=True, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    size = max(1, len(made) * 3 // (10 * seconds))
    return [made[at : at + size] for at in range(0, len(made), size)]


async def test_h264_without_keyframes_is_encoded_after_all(tmp_path: Path, ffmpeg: str) -> None:
    """Under auto, a source that stops sending keyframes is encoded from then on, and no frame is lost."""
    chunks = rare_keyframes(ffmpeg, 12)
    pipeline = '[video]\nmax_keyframe_interval = "4s"\nsize = "320x180"\n' + HLS + RECORDING
    with daemon(tmp_path / "run", pipeline) as running:
        await publish(running.publish_url, chunks, at=in_real_time(chunks))
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert "max_keyframe_interval" in status["encoder"]["last_error"]
    starts = [e for e in running.events("child_started") if e["child"] == "encoder"]
    assert len(starts) == 2
    frames = read_video(running.playlist)
    assert continuous(frames)
    assert decode_errors(running.playlist) == []
    # 30 a second, from the first to the last: copied ones, then encoded ones.
    assert len(frames) in range(358, 362)
    assert max(b[0] - a[0] for a, b in pairwise(frames)) < 0.040


async def test_a_killed_encoder_that_only_copies_the_picture_loses_no_frame(
    tmp_path: Path, ffmpeg: str
) -> None:
    """It goes on in the middle of a GOP, with the very frame that comes next."""
    chunks = rare_keyframes(ffmpeg, 14)
    pipeline = '[video]\nmax_keyframe_interval = "1m"\n' + HLS + RECORDING
    with daemon(tmp_path / "run", pipeline) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: publish(running.publish_url, chunks, at=in_real_time(chunks)))
            for _ in range(2):
                await trio.sleep(4)
                status = await running.wait_until(lambda s: s["encoder"] and s["encoder"]["pid"])
                os.kill(status["encoder"]["pid"], signal.SIGKILL)
        status = await running.wait_ended()
    assert status["encoder"]["restarts"] == 2
    source = tmp_path / "source.mkv"
    source.write_bytes(b"".join(chunks))
    (mkv,) = running.recordings
    assert decode_errors(mkv) == []
    assert_same_frames(read_video(mkv), read_video(source), align=True)
