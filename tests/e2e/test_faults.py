"""Faults from outside, while a live run goes on: what dies comes back, and nothing else notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from ingestd.testcard import test_card_chunks as card_chunks
from tests.e2e.test_captures import control_run
from tests.support.counting import assert_same_frames, continuous, decode_errors, placed, read_video
from tests.support.daemon import Daemon, daemon, publish
from tests.support.processes import descendants, free_port
from tests.support.rtmps_server import RtmpServer

ENCODING = """
[video]
codec = "h264"
size = "640x360"
preset = "ultrafast"
"""

RECORDING = """
[[sinks]]
type = "file"
format = "mkv"
"""

SINKS = (
    ENCODING
    + RECORDING
    + """
[[sinks]]
type = "hls"
window = 0
[[sinks]]
type = "rtmp"
url = "{url}"
ca_file = "{ca}"
key = "cam"
"""
)

#: So that attempts do not run out within a short test.
QUICK = """
[supervisor]
healthy_after = "2s"
stall_timeout = "2s"
"""

SLICE = 0.3


async def card(ffmpeg: str, seconds: float) -> list[bytes]:
    """A numbered test card of so many seconds, as a browser would cut it."""
    async with aclosing(card_chunks(ffmpeg, seconds=seconds, timeslice=SLICE, realtime=False)) as chunks:
        return [chunk async for chunk in chunks]


def in_real_time(chunks: Sequence[bytes]) -> list[float]:
    return [number * SLICE for number in range(len(chunks))]


async def hurt(running: Daemon, sink: str, number: signal.Signals) -> float:
    """Send *number* to the sink's process; returns the seconds until another one runs."""
    status = await running.wait_until(lambda s: any(x["name"] == sink and x["pid"] for x in s["sinks"]))
    pid = next(x["pid"] for x in status["sinks"] if x["name"] == sink)
    begin = trio.current_time()
    os.kill(pid, number)

    def again(status: dict[str, list[dict[str, object]]]) -> bool:
        now = next(x for x in status["sinks"] if x["name"] == sink)
        return now["state"] == "running" and now["pid"] not in (pid, None)

    await running.wait_until(again)
    return trio.current_time() - begin


def check_rtmp(recordings: Sequence[Path], control: list[tuple[float, int]], connections: int) -> None:
    """Each connection began at a keyframe, went on without a step back, and sent the program's own frames."""
    assert len(recordings) == connections
    program = dict(control)
    times = sorted(program)
    runs = [placed(read_video(flv), control) for flv in recordings]
    for flv, frames in zip(recordings, runs, strict=True):
        assert decode_errors(flv) == []
        assert continuous(frames)
        for pts, number in frames:
            nearest = min(times, key=lambda at: abs(at - pts))
            assert abs(nearest - pts) <= 0.002
            assert program[nearest] == number
    # However old the stream is, a connection's own times begin with it.
    assert all(read_video(flv)[0][0] < 1.01 for flv in recordings)
    firsts = [frames[0][0] for frames in runs]
    lasts = [frames[-1][0] for frames in runs]
    for last, first in pairwise(sorted([*lasts[:-1], *firsts[1:]])):
        assert first >= last
    # Keyframes are on the grid of 2 s.
    assert all(abs(first / 2 - round(first / 2)) < 0.01 for first in firsts)


async def fault_run(
    tmp_path: Path,
    server: RtmpServer,
    chunks: list[bytes],
    faults: Sequence[tuple[float, str, signal.Signals]],
) -> list[float]:
    """Publish *chunks* in real time, with *faults* at their seconds; each sink equals the control run."""
    control = read_video(await control_run(tmp_path / "control", chunks, ENCODING + RECORDING))
    recovered: list[float] = []

    async def inject(running: Daemon) -> None:
        start = trio.current_time()
        for at, sink, number in faults:
            await trio.sleep_until(start + at)
            recovered.append(await hurt(running, sink, number))

    pipeline = SINKS.format(url=server.rtmps_url, ca=server.ca_file)
    with daemon(tmp_path / "run", pipeline, config=QUICK) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inject, running)
            await publish(running.publish_url, chunks, at=in_real_time(chunks))
        status = await running.wait_ended()
        assert status["state"] == "ended", status
    server.wait_idle()
    (mkv,) = running.recordings
    assert_same_frames(read_video(mkv), control)
    assert_same_frames(read_video(running.playlist), control)
    check_rtmp(server.recordings("cam"), control, 1 + sum(sink == "rtmp" for _, sink, _ in faults))
    return recovered


async def test_killed_and_stopped_writers_come_back_and_the_recording_is_whole(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """SIGKILL and SIGSTOP of the HLS and the RTMPS writer: recording and HLS complete, RTMPS continuous."""
    faults = [
        (4.0, "hls", signal.SIGKILL),
        (9.0, "rtmp", signal.SIGKILL),
        (14.0, "hls", signal.SIGSTOP),
        (21.0, "rtmp", signal.SIGSTOP),
    ]
    await fault_run(tmp_path, rtmp_server, await card(ffmpeg, 30), faults)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_writer_hurt_three_times_thirty_seconds_apart(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str, number: signal.Signals
) -> None:
    """Each writer in turn, three times, 30 s apart: the recording equals the control run throughout."""
    at = [10.0 + 15 * n for n in range(6)]
    faults = [(at[n], "hls" if n % 2 else "rtmp", number) for n in range(6)]
    recovered = await fault_run(tmp_path, rtmp_server, await card(ffmpeg, 105), faults)
    print(f"{number.name}: back after {[round(s, 2) for s in recovered]} s")


async def test_a_closed_port_fails_its_sink_and_no_other(tmp_path: Path, ffmpeg: str) -> None:
    """Nothing listens: failed after the last attempt, with the cause; the recording is the control run's."""
    chunks = await card(ffmpeg, 14)
    control = read_video(await control_run(tmp_path / "control", chunks, ENCODING + RECORDING))
    pipeline = (
        ENCODING
        + RECORDING
        + (f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://127.0.0.1:{free_port()}/app"\nkey = "cam"\n')
    )
    with daemon(tmp_path / "run", pipeline) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: publish(running.publish_url, chunks, at=in_real_time(chunks)))
            failed = await running.wait_until(
                lambda s: any(x["name"] == "rtmp" and x["state"] == "failed" for x in s["sinks"])
            )
        status = await running.wait_ended()
    assert status["state"] == "ended"
    sink = next(s for s in failed["sinks"] if s["name"] == "rtmp")
    assert "connection refused" in sink["last_error"]
    restarts = [e for e in running.events("child_restarting") if e["child"] == "rtmp"]
    assert [e["delay_s"] for e in restarts] == [1.0, 2.0, 3.0]
    assert "cam" not in sink["last_error"].replace("***", "")
    (mkv,) = running.recordings
    assert_same_frames(read_video(mkv), control)


async def test_three_encoded_sinks_cost_one_encoder(tmp_path: Path, ffmpeg: str) -> None:
    """However many sinks want H.264, one process runs libx264."""
    pipeline = (
        ENCODING
        + RECORDING
        + ('[[sinks]]\ntype = "file"\nformat = "mp4"\nname = "mp4"\n[[sinks]]\ntype = "hls"\n')
    )
    assert await encoders_while_live(tmp_path, pipeline, await card(ffmpeg, 6)) == 1


def libx264_processes(daemon_pid: int) -> int:
    """How many of the daemon's processes have libx264 on their command line."""
    return sum(b"libx264" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(daemon_pid))


async def encoders_while_live(tmp_path: Path, pipeline: str, chunks: list[bytes]) -> int:
    """The number of libx264 processes while *chunks* are live through *pipeline*, all its sinks running."""
    with daemon(tmp_path / "run", pipeline) as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: publish(running.publish_url, chunks, at=in_real_time(chunks)))
            await running.wait_until(
                lambda s: bool(s["sinks"]) and all(x["state"] == "running" for x in s["sinks"])
            )
            count = libx264_processes(running.process.pid)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    return count
