"""The slate: while the publisher is away the program goes on, on the same connections."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio_websocket import WebSocketConnection

from ingestd.media.frames import Frame, Header, Kind
from ingestd.media.webm_demux import Demuxer
from ingestd.testcard import test_card_chunks as card_chunks
from tests.e2e.test_splice import PIPELINE
from tests.support import daemon as support
from tests.support.counting import (
    NO_NUMBER,
    assert_same_frames,
    continuous,
    decode_errors,
    placed,
    read_beeps,
    read_flashes,
    read_video,
)
from tests.support.daemon import Daemon, daemon
from tests.support.packages import embedded_ffmpeg, program
from tests.support.rtmps_server import RtmpServer

SLICE = 0.25
SLATE = """
[publisher]
reconnect_window = "20s"
[slate]
show = "{show}"
after = "500ms"
colour = "#203080"
image = "{image}"
text = "Back in a moment"
"""


async def card(ffmpeg: str, seconds: float) -> list[bytes]:
    chunks = card_chunks(ffmpeg, seconds=seconds, timeslice=SLICE, realtime=False, width=320, height=180)
    return [chunk async for chunk in chunks]


async def publish(running: Daemon, chunks: list[bytes], *, done: bool) -> None:
    """Send *chunks* in real time, then close, or be lost."""
    url = f"ws://{running.ingest}/stream/live/cam-key"
    async with support.connect(url) as socket:
        for chunk in chunks:
            await socket.send_message(chunk)
            await trio.sleep(SLICE)
        if not done:
            await lose(socket)


async def lose(socket: WebSocketConnection) -> None:
    """The connection is gone, without a word."""
    await trio.aclose_forcefully(socket._stream)


def stretches(frames: list[tuple[float, int]]) -> list[tuple[bool, float, float]]:
    """Runs of numbered pictures (True) and of others: whether, when it begins, when it ends."""
    found: list[tuple[bool, float, float]] = []
    for at, number in frames:
        shown = number != NO_NUMBER
        if found and found[-1][0] is shown:
            found[-1] = (shown, found[-1][1], at)
        else:
            found.append((shown, at, at))
    return found


def keyframes(mkv: Path) -> list[float]:
    """When the recording's keyframes are shown."""
    events = Demuxer().feed(mkv.read_bytes())
    (header,) = [event for event in events if isinstance(event, Header)]
    video = next(track.number for track in header.tracks if track.kind is Kind.VIDEO)
    frames = [event for event in events if isinstance(event, Frame) and event.track == video]
    return [frame.timestamp / 1e9 for frame in frames if frame.keyframe]


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("which", ["system", pytest.param("embedded", marks=pytest.mark.full)])
async def test_viewers_see_the_slate_and_nothing_breaks(
    tmp_path: Path, rtmp_server: RtmpServer, which: str
) -> None:
    """Shown after its time, in and out at keyframes, in every output, over one RTMP connection."""
    ffmpeg = program("ffmpeg") if which == "system" else embedded_ffmpeg()
    chunks = await card(ffmpeg, 3.0)
    pipeline = SLATE.format(show="colour", image="") + PIPELINE.format(url=rtmp_server.rtmp_url)
    with daemon(tmp_path, pipeline, config=f'[ffmpeg]\npath = "{ffmpeg}"\n') as running:
        for done in (False, False, True):
            await publish(running, chunks, done=done)
            if not done:
                await trio.sleep(3.0)
                assert running.status()["state"] == "interrupted"
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert (status["cuts"], status["gap_count"]) == (2, 2)
    assert [sink["attempts"] for sink in status["sinks"]] == [1, 1, 1], status
    assert status["encoder"]["restarts"] == 0
    rtmp_server.wait_idle()
    (flv,), (mkv,) = rtmp_server.recordings("cam"), running.recordings
    frames = read_video(mkv)
    assert continuous(frames)
    assert max(b - a for (a, _), (b, _) in pairwise(frames)) < 0.05
    for output in (mkv, running.playlist, flv):
        assert decode_errors(output) == [], output
        assert_same_frames(placed(read_video(output), frames), frames)
    assert "DISCONTINUITY" not in running.playlist.read_text()
    runs = stretches(frames)
    assert [shown for shown, _, _ in runs] == [True, False, True, False, True]
    at = keyframes(mkv)
    for _, begins, _ in runs[1:]:
        assert any(abs(key - begins) < 0.02 for key in at), (begins, at)
    for shown, begins, ends in runs:
        assert ends - begins == pytest.approx(2.9 if shown else 2.5, abs=0.9), runs
    # Sound goes with its picture after each slate.
    beeps, flashes = read_beeps(mkv), read_flashes(mkv)
    assert len(flashes) == 6
    for flash in flashes:
        assert min(abs(beep - flash) for beep in beeps) < 0.06, (beeps, flashes)


@pytest.mark.full
@pytest.mark.usefixtures("no_processes_left")
async def test_a_daemon_that_dies_under_the_slate(tmp_path: Path, ffmpeg: str) -> None:
    """The next one goes on where the slate was; what the publisher sends then is shown behind it."""
    chunks = await card(ffmpeg, 3.0)
    sinks = PIPELINE.partition('[[sinks]]\ntype = "rtmp"')[0]
    pipeline = SLATE.format(show="colour", image="") + sinks
    with daemon(tmp_path, pipeline) as running:
        await publish(running, chunks, done=False)
        await trio.sleep(2.5)
        assert running.events("slate_shown")
        running.kill()
        running.start_again()
        running.wait_ready()
        await trio.sleep(2.0)
        await publish(running, chunks, done=True)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    (mkv,) = running.recordings
    frames = read_video(mkv)
    assert continuous(frames)
    assert_same_frames(read_video(running.playlist), frames)
    assert [shown for shown, _, _ in stretches(frames)] == [True, False, True]
    *_, (_, begins, ends) = stretches(frames)
    again = [number for at, number in frames if begins <= at <= ends]
    assert again[0] <= 1
    assert again[-1] >= 88
    assert again == sorted(again)
    assert ends - begins == pytest.approx(2.95, abs=0.1)


@pytest.mark.parametrize("show", ["image", pytest.param("text without fonts", marks=pytest.mark.full)])
async def test_what_is_shown(tmp_path: Path, ffmpeg: str, show: str) -> None:
    """An image is scaled whole; a host that cannot write the text shows the slate without it."""
    image = tmp_path / "it's an [image], 100%.png"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=c=red:s=90x90", "-frames:v", "1", str(image)]
    await trio.run_process(argv)
    config = ""
    slate = SLATE.format(show="image", image=image)
    if show != "image":
        slate = SLATE.format(show="colour", image="")
        script = tmp_path / "ffmpeg"
        script.write_text(
            '#!/bin/sh\ncase "$*" in *drawtext*) echo "[error] Cannot find a valid font" >&2; exit 1;; esac\n'
            f'exec {ffmpeg} "$@"\n'
        )
        script.chmod(0o755)
        config = f'[ffmpeg]\npath = "{script}"\n'
    pipeline = slate.replace("[slate]", '[video]\ncodec = "h264"\nsize = "320x180"\n[slate]')
    with daemon(tmp_path / "run", pipeline + '[[sinks]]\ntype = "file"\n', config=config) as running:
        await publish(running, await card(ffmpeg, 2.0), done=False)
        await trio.sleep(2.0)
        await publish(running, await card(ffmpeg, 1.0), done=True)
        await running.wait_ended()
    (mkv,) = running.recordings
    ((_, begins, _),) = [run for run in stretches(read_video(mkv)) if not run[0]]
    colours = [pixel(ffmpeg, mkv, begins + 0.5, x) for x in (160, 20)]
    blue = pytest.approx((0x20, 0x30, 0x80), abs=12)
    if show == "image":
        assert colours[0] == pytest.approx((254, 0, 0), abs=12)
        assert colours[1] == blue
    else:
        assert colours == [blue, blue]
        assert running.events("slate_not_made")


def pixel(ffmpeg: str, mkv: Path, at: float, x: int) -> tuple[int, int, int]:
    """The colour at (*x*, 40) of the picture shown at *at*."""
    argv = [ffmpeg, "-v", "error", "-ss", str(at), "-i", str(mkv), "-frames:v", "1"]
    argv += ["-vf", f"crop=1:1:{x}:40:exact=1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(argv, capture_output=True, check=True)
    red, green, blue = done.stdout[:3]
    return red, green, blue
