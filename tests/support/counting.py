"""Frame counting: which numbered frames an output shows, when, and how far its sound is from its picture.

A numbered picture (see ``ingestd/testcard.py``) carries two rows of bars over its whole width, most
significant bit first, white = 1, a white guard bar before and a black one after: the wall clock in ms
(32 bits, rows 0-8 % of the height) and the frame's number (16 bits, rows 10-16 %). At every full second
a 1 kHz beep of 100 ms sounds while the picture below the bars flashes white.

Everything is read with one FFmpeg process per call. The calls block: under Trio use ``trio.to_thread``.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.packages import program

NumberedFrame = tuple[float, int]
Picture = tuple[float, float, float, float]
Stretch = tuple[float, float]

WHOLE: Picture = (0.0, 0.0, 1.0, 1.0)
NO_NUMBER = -1

_COLUMNS, _ROWS = 18, 50  # one column a bar, one row 2 % of the height: row 6 lies inside the number's bars
_NUMBER_ROW, _FIRST_PLAIN_ROW = 6, 9
_BEEP_HZ = 1000.0
_SOUND = "aformat=sample_fmts=flt:channel_layouts=mono,asettb=1/sr,ashowinfo"


class UnreadableMediaError(AssertionError):
    """FFmpeg decoded nothing of the file: the message carries what it said."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One decoded frame: *pts* in seconds, *number* (-1: no bars seen), mean *luma* below the bars."""

    pts: float
    number: int
    luma: float


def read_frames(
    source: str | Path,
    ffmpeg: str | None = None,
    *,
    picture: Picture = WHOLE,
    fmt: str | None = None,
    window: Stretch | None = None,
) -> list[VideoFrame]:
    """Decode every frame of the first video track, in presentation order, with the container's timestamps.

    *picture* is (x, y, width, height) of the numbered picture within the frame, as fractions, for output
    that was padded. *fmt* names the input format where FFmpeg would guess wrong (``webm`` …). *window* is
    what to read, in seconds from the beginning of the file: the rest is not decoded.
    """
    x, y, w, h = picture
    crop = "" if picture == WHOLE else f"crop=iw*{w}:ih*{h}:iw*{x}:ih*{y}:exact=1,"
    graph = f"extractplanes=y,{crop}scale={_COLUMNS}:{_ROWS}:flags=area,format=gray,showinfo=checksum=0"
    options = [
        "-map",
        "0:v:0",
        "-vf",
        graph,
        "-fps_mode",
        "passthrough",
        "-pix_fmt",
        "gray",
        "-f",
        "rawvideo",
    ]
    data, log = _decode(source, ffmpeg, options, fmt, window)
    cells = np.frombuffer(data, np.uint8).reshape(-1, _ROWS, _COLUMNS).astype(np.float64)
    time_base = re.search(r"\[Parsed_showinfo.*config in time_base: (\d+/\d+)", log)
    stamps = re.findall(r"\[Parsed_showinfo[^\]]*\] n: *\d+ pts: *(-?\d+)", log)
    if len(stamps) != len(cells):
        raise UnreadableMediaError(
            f"{source}: {len(cells)} frames but {len(stamps)} timestamps\n{_tail(log)}"
        )
    if time_base is None:
        return []
    unit = Fraction(time_base[1])
    return [
        VideoFrame(
            float(int(stamp) * unit), _number(cell[_NUMBER_ROW]), float(cell[_FIRST_PLAIN_ROW:].mean())
        )
        for stamp, cell in zip(stamps, cells, strict=True)
    ]


def read_video(
    source: str | Path, ffmpeg: str | None = None, *, picture: Picture = WHOLE, fmt: str | None = None
) -> list[NumberedFrame]:
    """(pts in seconds, frame number) of every decoded frame; the number is -1 where no bars are seen."""
    return [(frame.pts, frame.number) for frame in read_frames(source, ffmpeg, picture=picture, fmt=fmt)]


def read_flashes(source: str | Path, ffmpeg: str | None = None, *, fmt: str | None = None) -> list[float]:
    """The pts, in seconds, of the first white frame of every flash."""
    return flashes_of(read_frames(source, ffmpeg, fmt=fmt))


def read_beeps(
    source: str | Path,
    ffmpeg: str | None = None,
    *,
    fmt: str | None = None,
    steady: bool = False,
    window: Stretch | None = None,
) -> list[float]:
    """The moments, in seconds on the container's timeline, at which a 1 kHz beep begins (within about 1 ms).

    Timed by the decoded frames' pts, so that codec delay and priming count as a player counts them. With
    *steady* by the samples alone, from where most frames' pts say that they begin: for sound without holes
    whose timestamps stray, as those of a busy browser. *window* is that of `read_frames`.
    """
    data, log = _decode(source, ffmpeg, ["-map", "0:a:0", "-af", _SOUND, "-f", "f32le"], fmt, window)
    samples = np.frombuffer(data, np.float32)
    onsets: list[float] = []
    for start, rate, run in (_one_run if steady else _contiguous_runs)(log, samples):
        onsets += [start + at for at in _beep_onsets(run, rate)]
    return onsets


def read_sound(source: str | Path, ffmpeg: str | None = None, *, fmt: str | None = None) -> list[Stretch]:
    """(begin, end) in seconds of each stretch of sound in which no timestamp is more than 5 ms off."""
    data, log = _decode(source, ffmpeg, ["-map", "0:a:0", "-af", _SOUND, "-f", "f32le"], fmt)
    runs = _contiguous_runs(log, np.frombuffer(data, np.float32))
    return [(start, start + len(run) / rate) for start, rate, run in runs]


def av_offset(source: str | Path, ffmpeg: str | None = None, *, fmt: str | None = None) -> float:
    """Median of (beep - flash) in seconds: positive when the sound is late. Unpaired ones are left out."""
    return offset_of(read_beeps(source, ffmpeg, fmt=fmt), read_flashes(source, ffmpeg, fmt=fmt))


def flashes_of(frames: Sequence[VideoFrame]) -> list[float]:
    """The pts of the first white frame of every flash among *frames*."""
    if not frames:
        return []
    luma = np.array([frame.luma for frame in frames])
    usual, brightest = float(np.median(luma)), float(luma.max())
    if brightest - usual < 30:
        return []
    white = luma > (usual + brightest) / 2
    return [frames[i].pts for i in range(1, len(frames)) if white[i] and not white[i - 1]]


def offset_of(beeps: Sequence[float], flashes: Sequence[float]) -> float:
    """Median distance of each beep to its nearest flash, of those less than half a second apart."""
    return float(np.median([beep - flash for beep, flash in _paired(beeps, flashes)]))


@dataclass(frozen=True, slots=True)
class Drift:
    """Mean of (beep - flash) in seconds, at the beginning and at the end, and of how many pairs at least."""

    first: float
    last: float
    pairs: int

    @property
    def seconds(self) -> float:
        """How much later the sound is at the end: negative if the picture is."""
        return self.last - self.first


def av_drift(
    source: str | Path, ffmpeg: str | None = None, *, span: float = 60.0, fmt: str | None = None
) -> Drift:
    """How far sound and picture move apart from the first *span* seconds to the last, or half to half.

    Only those are decoded. A flash shows up to a frame late, because it waits for the next one to be drawn:
    where frames fall anywhere in a second that averages out, to a few ms; where they fall always alike it is
    the same at both ends. AssertionError if an end has not a pair in two seconds of it.
    """
    length = duration(source, ffmpeg, fmt=fmt)
    span = min(span, length / 2)
    offsets: list[list[float]] = []
    for window in ((0.0, span), (length - span, length)):
        flashes = flashes_of(read_frames(source, ffmpeg, fmt=fmt, window=window))
        pairs = _paired(read_beeps(source, ffmpeg, fmt=fmt, window=window), flashes)
        if len(pairs) < span / 2:
            raise AssertionError(f"{source}: {len(pairs)} beeps with a flash in {span:g} s, {window}")
        offsets.append([beep - flash for beep, flash in pairs])
    first, last = (float(np.mean(each)) for each in offsets)
    return Drift(first, last, min(map(len, offsets)))


def decode_errors(source: str | Path, ffmpeg: str | None = None, *, fmt: str | None = None) -> list[str]:
    """What FFmpeg complains about when it decodes everything; [] for a sound file."""
    argv = [*_input(source, ffmpeg, fmt, "error"), "-fps_mode", "passthrough"]
    argv += ["-enc_time_base:v", "1/90000", "-f", "null", "-"]  # else FFmpeg complains of its own rounding
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode and not lines:
        lines = [f"ffmpeg exited with {done.returncode}"]
    return lines


def duration(source: str | Path, ffmpeg: str | None = None, *, fmt: str | None = None) -> float:
    """Seconds of media that are there: from the first packet's pts to the end of the last."""
    argv = [*_input(source, ffmpeg, fmt, "error"), "-map", "0:v?", "-map", "0:a?", "-c", "copy"]
    done = subprocess.run(
        [*argv, "-f", "framecrc", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    units = {
        int(i): Fraction(tb) for i, tb in re.findall(r"^#tb (\d+): (\d+/\d+)", done.stdout, re.MULTILINE)
    }
    rows = re.findall(r"^(\d+), +-?\d+, +(-?\d+), +(\d+),", done.stdout, re.MULTILINE)
    if not rows:
        raise UnreadableMediaError(f"{source}: no packets\n{_tail(done.stderr)}")
    begin = min(int(pts) * units[int(i)] for i, pts, _ in rows)
    end = max((int(pts) + int(length)) * units[int(i)] for i, pts, length in rows)
    return float(end - begin)


def header_duration(source: str | Path, ffmpeg: str | None = None) -> float | None:
    """The duration that the container itself states, in seconds; None if it states none."""
    argv = [ffmpeg or program("ffmpeg"), "-hide_banner", "-nostdin", "-i", str(source)]
    log = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stderr
    match = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", log)
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def assert_same_frames(
    got: Sequence[NumberedFrame],
    control: Sequence[NumberedFrame],
    tolerance: float = 0.002,
    *,
    align: bool = False,
) -> None:
    """Fail unless *got* shows the control run's numbers in the same order at the same times.

    *tolerance* is in seconds. *align* first moves *got* so that both start at the same timestamp, for
    targets that count from zero. The message has the first difference, what is missing, extra or repeated.
    """
    shift = control[0][0] - got[0][0] if align and got and control else 0.0
    moved = [(pts + shift, number) for pts, number in got]
    for at, (mine, theirs) in enumerate(zip(moved, control, strict=False)):
        if mine[1] != theirs[1] or abs(mine[0] - theirs[0]) > tolerance + 1e-9:
            raise AssertionError(_difference(moved, control, at, tolerance))
    if len(moved) != len(control):
        raise AssertionError(_difference(moved, control, min(len(moved), len(control)), tolerance))


def placed(frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame]) -> list[NumberedFrame]:
    """*frames* moved to when *control* shows them, for a target that counts from a beginning of its own.

    They are as they were if *control* does not show the first of them.
    """
    wanted, shown = [number for _, number in frames], [number for _, number in control]

    def agreement(at: int) -> int:
        pairs = zip(wanted, shown[at:], strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    starts = [at for at, number in enumerate(shown) if number == wanted[0]] if wanted else []
    if not starts:
        return list(frames)
    shift = control[max(starts, key=agreement)][0] - frames[0][0]
    return [(pts + shift, number) for pts, number in frames]


def continuous(frames: Sequence[NumberedFrame]) -> bool:
    """Whether there are frames and their timestamps only ever increase."""
    return bool(frames) and all(a[0] < b[0] for a, b in itertools.pairwise(frames))


def _difference(
    got: Sequence[NumberedFrame], control: Sequence[NumberedFrame], at: int, tolerance: float
) -> str:
    have, want = Counter(n for _, n in got), Counter(n for _, n in control)
    missing, extra = want - have, have - want
    repeated = {number: times for number, times in have.items() if times > max(1, want[number])}

    def around(frames: Sequence[NumberedFrame]) -> str:
        shown = (f"{'→' if i == at else ''}{n}@{t:.4f}" for i, (t, n) in enumerate(frames) if abs(i - at) < 4)
        return " ".join(shown) + (" (ends here)" if len(frames) <= at + 3 else " …")

    return "\n".join(
        [
            f"not the control run's frames: differs first at index {at} (tolerance {tolerance * 1000:g} ms)",
            f"  got     {around(got)}",
            f"  control {around(control)}",
            f"  got {len(got)} frames, control {len(control)}; "
            f"missing {missing.total()} {sorted(missing)[:10]}, extra {extra.total()} {sorted(extra)[:10]}, "
            f"repeated {len(repeated)} {sorted(repeated)[:10]}",
        ]
    )


def _paired(beeps: Sequence[float], flashes: Sequence[float]) -> list[tuple[float, float]]:
    """Each beep with its nearest flash, of those less than half a second apart."""
    nearest = [(beep, min(flashes, key=lambda at: abs(at - beep))) for beep in beeps if flashes]
    pairs = [(beep, flash) for beep, flash in nearest if abs(beep - flash) < 0.5]
    if not pairs:
        raise AssertionError(f"no beep has a flash within 0.5 s: beeps {beeps[:5]}…, flashes {flashes[:5]}…")
    return pairs


def _number(bars: npt.NDArray[np.float64]) -> int:
    white, black = float(bars[0]), float(bars[-1])
    if white - black < 60:
        return NO_NUMBER
    number = 0
    for bar in bars[1:-1]:
        number = number << 1 | int(bar > (white + black) / 2)
    return number


def _contiguous_runs(log: str, samples: npt.NDArray[np.float32]) -> list[tuple[float, int, Any]]:
    """(start in seconds, rate, samples) of each stretch without a jump of more than 5 ms."""
    runs: list[tuple[float, int, Any]] = []
    at, begin, expected = 0, 0, None
    for pts, rate, count in _sound_frames(log):
        if expected is None or abs(pts - expected) > 0.005 * rate:
            runs.append((pts / rate, rate, samples[at:at]))
            begin = at
        at += count
        expected = pts + count
        runs[-1] = (runs[-1][0], rate, samples[begin:at])
    return runs


def _one_run(log: str, samples: npt.NDArray[np.float32]) -> list[tuple[float, int, Any]]:
    """(start in seconds, rate, samples) of all, taken to be without a hole."""
    starts, at, rate = [], 0, 1
    for pts, rate, count in _sound_frames(log):  # noqa: B007  they have all one rate
        starts.append(pts - at)
        at += count
    return [(float(np.median(starts)) / rate, rate, samples)] if starts else []


def _sound_frames(log: str) -> Iterator[tuple[int, int, int]]:
    """(pts, rate, samples) of each decoded frame, the pts in samples."""
    pattern = r"\[Parsed_ashowinfo[^\]]*\] n:\d+ pts:(-?\d+) .*?rate:(\d+) nb_samples:(\d+)"
    for pts, rate, count in re.findall(pattern, log):
        yield int(pts), int(rate), int(count)


def _beep_onsets(samples: Any, rate: int) -> list[float]:
    """Seconds into *samples* at which the 1 kHz part of the sound rises over half of a loud beep."""
    window = rate // 200  # 5 ms: five periods
    if len(samples) < 4 * window:
        return []
    carrier = np.exp(-2j * np.pi * _BEEP_HZ * np.arange(len(samples)) / rate)
    summed = np.cumsum(np.concatenate(([0], samples * carrier)))
    level = np.abs(summed[window:] - summed[:-window]) / window
    loudest = float(np.percentile(level, 99))
    if loudest < 0.005:
        return []
    loud = level > loudest / 2
    rises = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1
    return [float(at + window / 2) / rate for at in rises if loud[at : at + rate // 25].mean() > 0.9]


def _decode(
    source: str | Path,
    ffmpeg: str | None,
    options: list[str],
    fmt: str | None,
    window: Stretch | None = None,
) -> tuple[bytes, str]:
    # Of a transport stream FFmpeg takes the first timestamp among the tracks in use for zero: use all.
    unused = ["-map", "0", "-c", "copy", "-f", "null", "-"]
    argv = [*_input(source, ffmpeg, fmt, "info", window), *options, "pipe:1", *unused]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    log = done.stderr.decode(errors="replace")
    if not done.stdout and done.returncode:
        raise UnreadableMediaError(
            f"{source}: nothing decoded, ffmpeg exited with {done.returncode}\n{_tail(log)}"
        )
    return done.stdout, log


def _input(
    source: str | Path, ffmpeg: str | None, fmt: str | None, level: str, window: Stretch | None = None
) -> list[str]:
    argv = [ffmpeg or program("ffmpeg"), "-hide_banner", "-nostdin", "-nostats", "-v", level, "-copyts"]
    if window is not None:
        begin, end = window
        argv += ["-ss", f"{begin:.6f}", "-t", f"{end - begin:.6f}"]
    return [*argv, *(["-f", fmt] if fmt else []), "-i", str(source)]


def _tail(log: str) -> str:
    return "\n".join(log.splitlines()[-8:])
