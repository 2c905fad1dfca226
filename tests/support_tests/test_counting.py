"""The frame reader against pictures and sounds whose numbers and times are known beforehand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import counting

FPS, SECONDS, FIRST_NUMBER = 25, 4, 41000
SOUND_LATE = 0.08

# The captures' bars: 18 columns, white guard, 16 bits, black guard (here one pixel a bar, then enlarged).
BARS = (
    f"geq=lum='if(eq(X,0),255,if(eq(X,17),0,255*mod(floor((N+{FIRST_NUMBER})/pow(2,16-X)),2)))'"
    ",scale=320:12:flags=neighbor"
)
SOUND = f"aevalsrc='0.4*sin(2*PI*1000*t)*between(mod(t-{SOUND_LATE},1),0,0.1)*gte(t,1)':s=48000:d={SECONDS}"


def make(ffmpeg: str, path: Path, *options: str, graph: str = "null") -> Path:
    argv = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    argv += ["-f", "lavfi", "-i", f"color=gray:s=320x180:r={FPS}:d={SECONDS}"]
    argv += ["-f", "lavfi", "-i", f"color=black:s=18x1:r={FPS}:d={SECONDS},format=gray,{BARS}"]
    argv += ["-f", "lavfi", "-i", SOUND]
    flash = "drawbox=c=white:t=fill:enable='lt(mod(t,1),0.1)*gte(t,1)'"
    argv += [
        "-filter_complex",
        f"[0]{flash}[a];[a][1]overlay=0:18,format=yuv420p,{graph}[v]",
        "-map",
        "[v]",
        "-map",
        "2",
    ]
    subprocess.run([*argv, "-shortest", *options, str(path)], check=True)
    return path


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac")
FORMATS = {
    "a.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-c:a", "libopus"),
    "a.mkv": H264,
    "a.mp4": H264,
    "a.flv": H264,
    "a.ts": H264,
    "a.m3u8": (*H264, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_reads_number_time_and_av_offset_of_every_container(name: str, ffmpeg: str, tmp_path: Path) -> None:
    """Each frame's number and pts, and a sound 80 ms late, come back from every container we write."""
    path = make(ffmpeg, tmp_path / name, *FORMATS[name])
    frames = counting.read_video(path)
    expected = [(i / FPS, FIRST_NUMBER + i) for i in range(FPS * SECONDS)]
    counting.assert_same_frames(frames, expected, align=True)
    assert counting.continuous(frames)
    muxing = 0.007 if name == "a.webm" else 0.0  # FFmpeg 5.1 counts Opus' codec delay twice, 9.0 does not
    assert counting.av_offset(path) == pytest.approx(SOUND_LATE, abs=0.003 + muxing)
    assert len(counting.read_beeps(path)) == SECONDS - 1
    assert len(counting.read_flashes(path)) == SECONDS - 1
    assert counting.decode_errors(path) == []
    assert counting.duration(path) == pytest.approx(SECONDS, abs=0.1)


def test_timestamps_are_the_containers_own(ffmpeg: str, tmp_path: Path) -> None:
    """A recording that begins at 1000 s is read as such, to the millisecond, not moved to zero."""
    path = make(ffmpeg, tmp_path / "late.mkv", *H264, "-output_ts_offset", "1000")
    frames = counting.read_video(path)
    assert frames[0][0] == pytest.approx(1000, abs=0.03)
    assert frames[1][0] - frames[0][0] == pytest.approx(1 / FPS, abs=0.0011)
    assert counting.av_offset(path) == pytest.approx(SOUND_LATE, abs=0.003)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.m3u8"])
def test_sound_that_begins_late_is_late(name: str, each_ffmpeg: str, ffmpeg: str, tmp_path: Path) -> None:
    """Sound from 300 ms on is one stretch from there on, also where FFmpeg would call that zero."""
    options = (*FORMATS[name], "-bsf:a", "noise=drop='lt(n,14)'", "-muxdelay", "0", "-muxpreload", "0")
    path = make(ffmpeg, tmp_path / name, *options)
    ((begin, end),) = counting.read_sound(path, each_ffmpeg)
    assert (begin, end) == pytest.approx((0.3, SECONDS), abs=0.03)
    beeps = counting.read_beeps(path, each_ffmpeg)
    assert beeps == pytest.approx([1.08, 2.08, 3.08], abs=0.003)


def test_beeps_by_the_samples_alone(ffmpeg: str, tmp_path: Path) -> None:
    """Timestamps that are late for a while, in the middle of a beep, too, do not move steady sound."""
    stray = "setts=ts='if(between(N,95,105),PTS+100,PTS)'"
    beeps = counting.read_beeps(make(ffmpeg, tmp_path / "a.webm", *FORMATS["a.webm"]))
    path = make(ffmpeg, tmp_path / "b.webm", *FORMATS["a.webm"], "-bsf:a", stray)
    assert counting.read_beeps(path, steady=True) == pytest.approx(beeps, abs=0.001)
    assert counting.read_beeps(path) != pytest.approx(beeps, abs=0.010)


def test_padded_picture_is_read_inside_its_frame(ffmpeg: str, tmp_path: Path) -> None:
    """Of a letter-boxed output the numbers are read where the picture is; outside of it there are none."""
    path = make(ffmpeg, tmp_path / "pad.mp4", *H264, graph="scale=320:180,pad=320:320:0:70:black")
    frames = counting.read_video(path, picture=(0, 70 / 320, 1, 180 / 320))
    assert [number for _, number in frames] == list(range(FIRST_NUMBER, FIRST_NUMBER + FPS * SECONDS))
    assert {number for _, number in counting.read_video(path)} == {counting.NO_NUMBER}


def test_embedded_ffmpeg_reads_the_same(each_ffmpeg: str, ffmpeg: str, tmp_path: Path) -> None:
    """Both FFmpegs give the same frames of the same file."""
    path = make(ffmpeg, tmp_path / "a.webm", *FORMATS["a.webm"])
    assert counting.read_video(path, each_ffmpeg) == counting.read_video(path)
    assert counting.read_beeps(path, each_ffmpeg) == pytest.approx(counting.read_beeps(path), abs=0.001)


def test_damaged_file_reports_decode_errors(ffmpeg: str, tmp_path: Path) -> None:
    """A file with its middle overwritten is not taken for a sound one, and an empty one cannot be read."""
    path = make(ffmpeg, tmp_path / "a.mkv", *H264)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    assert counting.decode_errors(path)
    path.write_bytes(b"")
    with pytest.raises(counting.UnreadableMediaError):
        counting.read_video(path)


CONTROL = [(i / 30, 100 + i) for i in range(60)]


def test_same_frames_within_the_tolerance_pass() -> None:
    """A millisecond of rounding is no difference; a constant shift is none when aligned."""
    counting.assert_same_frames([(t + 0.001, n) for t, n in CONTROL], CONTROL)
    counting.assert_same_frames([(t + 7.5, n) for t, n in CONTROL], CONTROL, align=True)


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (CONTROL[:30] + CONTROL[31:], r"index 30.*\n.*\n.*\n.*missing 1 \[130\], extra 0"),
        (CONTROL[:-2], r"got 58 frames, control 60; missing 2 \[158, 159\]"),
        (
            [*CONTROL[:5], CONTROL[4], *CONTROL[5:]],
            r"index 5.*\n.*→104@(.*\n)+.*extra 1 \[104\], repeated 1 \[104\]",
        ),
        ([(t + 0.003, n) for t, n in CONTROL], r"index 0 \(tolerance 2 ms\)"),
        ([], r"got 0 frames"),
    ],
)
def test_differences_are_named(got: list[counting.NumberedFrame], message: str) -> None:
    """A lost, repeated or late frame fails, and the message says where it begins and what is missing."""
    with pytest.raises(AssertionError, match=message):
        counting.assert_same_frames(got, CONTROL)


def test_offset_ignores_what_has_no_partner() -> None:
    """A flash without its beep, or the other way round, does not count; without any pair it is an error."""
    assert counting.offset_of([1.02, 2.03, 3.02, 9.0], [0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.02)
    with pytest.raises(AssertionError, match="no beep has a flash"):
        counting.offset_of([1.0], [])


def test_continuous_means_strictly_increasing() -> None:
    """A timestamp that stands still or goes back is not continuous, nor is a file without frames."""
    assert counting.continuous(CONTROL)
    assert not counting.continuous([*CONTROL, CONTROL[-1]])
    assert not counting.continuous([])


def test_a_connection_s_frames_are_placed_where_the_control_run_shows_them() -> None:
    """By the run of numbers: one of them alone may be shown at several times."""
    control = [(0.0, 7), (0.25, 7), (0.5, 7), (0.75, 8), (1.0, 9), (1.25, 7)]
    assert counting.placed([(4.0, 7), (4.25, 8), (4.5, 9)], control) == control[2:5]
    assert counting.placed([(4.0, 7), (4.25, 7), (4.5, 8)], control) == control[1:4]
    assert counting.placed([(1.0, 5)], control) == [(1.0, 5)]
    assert counting.placed([], control) == []


def make_drifting(
    ffmpeg: str, path: Path, *options: str, sound: float = 0.0, picture: float = 0.0, fps: float = 30
) -> Path:
    """Two minutes of beeps and flashes that stray from the seconds by so much from one to the next."""
    beep = f"0.4*sin(2*PI*1000*t)*lt(mod(t-0.05,{1 + sound}),0.1)*gte(t,1)"
    flash = f"drawbox=c=white:t=fill:enable='lt(mod(t,{1 + picture}),0.1)*gte(t,1)'"
    argv = [ffmpeg, "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", f"color=gray:s=64x48:r={fps}"]
    argv += ["-f", "lavfi", "-i", f"aevalsrc='{beep}':s=44100", "-vf", flash, "-t", "120"]
    subprocess.run([*argv, *options, str(path)], check=True)
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv", "a.m3u8"])
def test_drift_of_the_sound_is_found_in_every_output(name: str, ffmpeg: str, tmp_path: Path) -> None:
    """Beeps that come 0.4 ms later each second are 40 ms later from 10 s to 110 s, within 3 ms."""
    drift = counting.av_drift(make_drifting(ffmpeg, tmp_path / name, *FORMATS[name], sound=0.0004), span=20)
    assert drift.seconds == pytest.approx(0.040, abs=0.003)
    assert drift.first == pytest.approx(0.050 + 10 * 0.0004, abs=0.003)
    assert drift.pairs >= 18


@pytest.mark.parametrize(("sound", "picture"), [(0.0, 0.0), (-0.0006, 0.0), (0.0, 0.0003), (0.0008, 0.0008)])
def test_drift_is_that_of_sound_against_picture(
    sound: float, picture: float, ffmpeg: str, tmp_path: Path
) -> None:
    """Either may stray, or both alike; where frames fall anywhere in a second it is found within 6 ms."""
    path = make_drifting(ffmpeg, tmp_path / "a.mkv", *H264, sound=sound, picture=picture, fps=29.63)
    assert counting.av_drift(path, span=20).seconds == pytest.approx(100 * (sound - picture), abs=0.006)


def test_drift_needs_beeps_and_flashes_at_both_ends(ffmpeg: str, tmp_path: Path) -> None:
    """A file that falls silent has no drift that could be told."""
    path = make_drifting(ffmpeg, tmp_path / "a.mkv", *H264, "-af", "volume=0:enable='gt(t,60)'")
    with pytest.raises(AssertionError, match="beep"):
        counting.av_drift(path, span=20)
