"""Long-running streams: where counters of 31, 32 and 33 bits begin anew, no sink loses a frame.

`tests.support.aged` lets a session's timeline begin just before such a moment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from ingestd.media.playlist import parse_media_playlist
from tests.e2e.test_captures import control_run
from tests.e2e.test_faults import QUICK, card, hurt, in_real_time
from tests.support.captures import capture
from tests.support.clocks import even_second, moved
from tests.support.counting import (
    NumberedFrame,
    assert_same_frames,
    continuous,
    decode_errors,
    placed,
    read_beeps,
    read_video,
)
from tests.support.daemon import Daemon, daemon, publish
from tests.support.rtmps_server import RtmpServer

ENCODING = """
[video]
codec = "{codec}"
size = "320x180"
preset = "ultrafast"
"""
MKV = '[[sinks]]\ntype = "file"\nformat = "mkv"\nname = "mkv"\n'
SINKS = (
    MKV
    + """
[[sinks]]
type = "hls"
window = 0
container = "{container}"
[[sinks]]
type = "rtmp"
url = "{url}"
ca_file = "{ca}"
key = "cam"
"""
)
#: A program of some seconds passes them in its second half.
PASSED = ("33 bits at 90 kHz", "31 bits of ms", "32 bits of ms")
BEFORE = 6.0


def pipeline(server: RtmpServer, container: str, codec: str = "h264") -> str:
    sinks = SINKS.format(container=container, url=server.rtmps_url, ca=server.ca_file)
    return ENCODING.format(codec=codec) + sinks


def aged(seconds: int, *more: str) -> tuple[str, ...]:
    """A daemon whose sessions are so old when they begin; see `tests.support.aged`."""
    return ("-m", "tests.support.aged", ",".join([str(seconds), *more]))


async def control(tmp_path: Path, chunks: list[bytes], codec: str = "h264") -> Path:
    """The recording of a young session, without faults and without other sinks, by the system's FFmpeg."""
    return await control_run(tmp_path / "control", chunks, ENCODING.format(codec=codec) + MKV)


def check(running: Daemon, flvs: Sequence[Path], young: Path, begin: int, *, connections: int = 1) -> None:
    """Every sink shows the frames of *young*, *begin* seconds later; of RTMP each connection a part of them.

    MPEG-TS tells times modulo 26.5 h, and an RTMP connection has times of its own.
    """
    expected = [(pts + begin, number) for pts, number in read_video(young)]
    (mkv,) = running.recordings
    assert_same_frames(placed(read_video(mkv), expected), expected)
    # A recording begins at 0, whatever the program's age.
    later = read_video(mkv)[0][0] - read_video(young)[0][0]
    assert later == 0
    beeps = read_beeps(mkv)  # a restart in the middle of one makes two of it
    for at in read_beeps(young):
        assert min(abs(beep - later - at) for beep in beeps) < 0.003
    frames = read_video(running.playlist)
    assert continuous(frames)
    assert_same_frames(frames, expected, align=True)
    check_playlist(running.playlist, expected)
    assert len(flvs) == connections
    shown: list[NumberedFrame] = []
    for flv in flvs:
        frames = read_video(flv)
        assert continuous(frames)
        assert frames[0][0] < 1.01
        shown += placed(frames, expected)
    if connections == 1:
        assert_same_frames(shown, expected)
    for output in (mkv, running.playlist, *flvs):
        assert decode_errors(output) == []


def check_playlist(path: Path, expected: Sequence[NumberedFrame]) -> None:
    """EXTINF by EXTINF the segments are as long as what they show, and end where the program does."""
    segments = parse_media_playlist(path.read_text()).segments
    lasts = expected[-1][0] - expected[0][0]
    assert sum(segment.duration for segment in segments) == pytest.approx(lasts, abs=0.05)
    # Keyframes are 2 s apart, and one more is where an encoder was restarted.
    assert all(1.9 < segment.duration < 4.1 for segment in segments[:-1])


async def test_a_stream_of_49_days_loses_nothing(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """2^32 ms is a moment at which MPEG-TS begins anew, too (for the 45th time)."""
    chunks, begin = await card(ffmpeg, 12), even_second("32 bits of ms", BEFORE)
    young = await control(tmp_path, chunks)
    with daemon(tmp_path / "run", pipeline(rtmp_server, "ts"), program=aged(begin)) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert [sink["restarts"] for sink in status["sinks"]] == [0, 0, 0], status
    rtmp_server.wait_idle()
    check(running, rtmp_server.recordings("cam"), young, begin)


@pytest.mark.full
@pytest.mark.timeout(240)
@pytest.mark.parametrize("container", ["ts", "fmp4"])
@pytest.mark.parametrize("wrap", PASSED)
async def test_restarts_around_the_moment_are_exact(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str, each_ffmpeg: str, wrap: str, container: str
) -> None:
    """Encoder, HLS and RTMPS writer are killed at it, after it: recording and HLS lack nothing."""
    chunks, begin = await card(ffmpeg, 18), even_second(wrap, BEFORE)
    young = await control(tmp_path, chunks)
    config = QUICK + f'[ffmpeg]\npath = "{each_ffmpeg}"\n'

    async def inject(running: Daemon) -> None:
        start = trio.current_time()
        for at, what in ((6.5, "encoder"), (9.0, "hls"), (11.5, "rtmp"), (13.5, "encoder")):
            await trio.sleep_until(start + at)
            if what == "encoder":
                status = await running.wait_until(lambda s: s["encoder"] and s["encoder"]["pid"])
                os.kill(status["encoder"]["pid"], signal.SIGKILL)
            else:
                await hurt(running, what, signal.SIGKILL)

    run = daemon(tmp_path / "run", pipeline(rtmp_server, container), config=config, program=aged(begin))
    with run as running:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inject, running)
            await publish(running.publish_url, chunks, at=in_real_time(chunks))
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert status["encoder"]["restarts"] == 2
    rtmp_server.wait_idle()
    check(running, rtmp_server.recordings("cam"), young, begin, connections=2)


@pytest.mark.full
@pytest.mark.parametrize("wrap", PASSED)
async def test_what_comes_and_goes_at_that_age_is_filled(
    tmp_path: Path, rtmp_server: RtmpServer, each_ffmpeg: str, wrap: str
) -> None:
    """Recorders of another codec, without sound, without picture: each begins an encoder with large times."""
    names = ("cv-vp8-250.webm", "gum-audio-250.webm", "gum-vp8-videoonly-250.webm", "cv-vp9-250.webm")
    chunks = [chunk for name in names for chunk in whole(name)]
    begin = even_second(wrap, BEFORE)
    config = f'[ffmpeg]\npath = "{each_ffmpeg}"\n'
    (tmp_path / "young").mkdir()
    with daemon(tmp_path / "young", ENCODING.format(codec="h264") + MKV, config=config) as running:
        await publish(running.publish_url, chunks)
        await running.wait_ended()
    (young,) = running.recordings
    run = daemon(tmp_path / "run", pipeline(rtmp_server, "ts"), config=config, program=aged(begin))
    with run as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    assert status["encoder"]["restarts"] == 0, status
    rtmp_server.wait_idle()
    check(running, rtmp_server.recordings("cam"), young, begin)


def whole(name: str) -> list[bytes]:
    """A capture as a recorder ends it that was stopped: the trimmed ones end one byte into an element."""
    *chunks, last = capture(name).chunks()
    return [*chunks, last[:-1]]


@pytest.mark.full
@pytest.mark.parametrize("wrap", PASSED)
async def test_a_copied_picture_passes_it(
    tmp_path: Path, rtmp_server: RtmpServer, each_ffmpeg: str, wrap: str
) -> None:
    """H.264 as it came and sound as AAC, with an encoder that is killed after the moment."""
    chunks = [chunk for _ in range(3) for chunk in whole("cv-h264webm-100.mkv")]
    begin = even_second(wrap, BEFORE)
    young = await control(tmp_path, chunks, "auto")
    config = QUICK + f'[ffmpeg]\npath = "{each_ffmpeg}"\n'
    pipe = pipeline(rtmp_server, "ts", "auto")
    with daemon(tmp_path / "run", pipe, config=config, program=aged(begin)) as running:
        async with trio.open_nursery() as nursery:
            at = [number * 0.12 for number in range(len(chunks))]
            nursery.start_soon(lambda: publish(running.publish_url, chunks, at=at))
            await trio.sleep(9)
            status = await running.wait_until(lambda s: s["encoder"] and s["encoder"]["pid"])
            os.kill(status["encoder"]["pid"], signal.SIGKILL)
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    expected = [(pts + begin, number) for pts, number in read_video(young)]
    (mkv,) = running.recordings
    assert_same_frames(placed(read_video(mkv), expected), expected)
    assert_same_frames(read_video(running.playlist), expected, align=True)


@pytest.mark.full
async def test_an_rtmp_connection_is_renewed_before_its_clock_runs_out(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str
) -> None:
    """After 24 days (here: 5 s, the first of which stays empty) at a keyframe, and no frame is lost."""
    chunks, begin = await card(ffmpeg, 14), even_second("31 bits of ms", BEFORE)
    young = await control(tmp_path, chunks)
    program = aged(begin, "5")
    with daemon(tmp_path / "run", pipeline(rtmp_server, "ts"), program=program) as running:
        await publish(running.publish_url, chunks, at=in_real_time(chunks))
        status = await running.wait_ended()
    rtmp = next(sink for sink in status["sinks"] if sink["name"] == "rtmp")
    assert (rtmp["restarts"], rtmp["dropped_frames"], rtmp["last_error"]) == (0, 0, None)
    rtmp_server.wait_idle()
    flvs = rtmp_server.recordings("cam")
    assert len(flvs) == 4
    expected = [(pts + begin, number) for pts, number in read_video(young)]
    assert_same_frames([frame for flv in flvs for frame in placed(read_video(flv), expected)], expected)


@pytest.mark.full
async def test_recorders_with_an_old_clock_are_like_any_other(
    tmp_path: Path, rtmp_server: RtmpServer
) -> None:
    """A WebM recorder whose clock passes 2^32 ms, then an MP4 one whose 32 bits at 48 kHz end."""
    first, second = whole("cv-vp8-250.webm"), capture("cv-mp4avc-250.mp4").chunks()
    young = await control(tmp_path, [*first, *second])
    old = [moved(b"".join(first), 4_294_965), moved(b"".join(second), 89_476)]
    with daemon(tmp_path / "run", pipeline(rtmp_server, "fmp4")) as running:
        await publish(
            running.publish_url,
            [data[at : at + 50_000] for data in old for at in range(0, len(data), 50_000)],
        )
        status = await running.wait_ended()
    assert status["state"] == "ended", status
    rtmp_server.wait_idle()
    check(running, rtmp_server.recordings("cam"), young, 0)
    assert max(b - a for (a, _), (b, _) in pairwise(read_video(running.playlist))) < 0.2
