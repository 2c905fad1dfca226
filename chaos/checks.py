"""The named checks: what each output of a run must show, against the control run.

They are blocking, except where they say otherwise. A check that fails is a `Violation`; its *check* is one
of `CHECKS`, by which a test can say what it expects to be caught.
"""

from __future__ import annotations

import bisect
import subprocess
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import define, frozen

from chaos.lives import Life, Sizes
from ingestd.client import Published
from tests.support.counting import (
    NumberedFrame,
    UnreadableMediaError,
    assert_same_frames,
    continuous,
    decode_errors,
    placed,
    read_video,
)
from tests.support.packages import program

CHECKS = {
    "accepted": "the raw recordings hold exactly the chunks that were accepted, recorder by recorder",
    "whole": "every chunk was accepted, unless the fault ends the publication",
    "gaps": "a resumable publisher's chunks are missing only where a fault outlasts its buffer: one gap each",
    "recording": "the recording shows the control run's frames at the control run's times",
    "hls": "so does the playlist with all its segments; it lists what it once listed, and has ended",
    "drift": "sound and picture stay together",
    "rtmp": "each connection begins with an IDR, never steps back, and shows frames of the program",
    "isolation": "what nothing hit was not restarted; its RTMP connection is one, and lacks no frame",
    "recovery": "what was hit came back in time",
    "state": "the stream ended as it must, in one session; the daemon exited with 0 and logged no crash",
    "processes": "no process was left behind, nor by one life of the daemon to the next",
    "descriptors": "after the session the daemon has no more files and sockets open than before",
    "memory": "the daemon's memory stayed within its bound, and in a long run where it was",
}

#: Frames are the same when their times differ by no more; in seconds.
TOLERANCE = 0.002

#: How far sound and picture may move apart, in seconds.
DRIFT = 0.040

#: In a run of at least so many seconds the medians of resident memory of its halves may differ by so much.
LONG, GROWTH = 600.0, 0.05


@frozen(slots=True)
class Violation:
    """A *check* of `CHECKS` that failed, and how."""

    check: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


@define(slots=True)
class SinkCount:
    """Video frames of one sink: what there is, and what it lacks of the control run's."""

    sent: int = 0
    missing: int = 0


def check_accepted(raw: Sequence[Path], accepted: Sequence[Sequence[bytes]]) -> Iterator[Violation]:
    """One file a recorder, byte for byte."""
    if len(raw) != len(accepted):
        yield Violation("accepted", f"{len(accepted)} recorders were accepted, {len(raw)} are kept")
    for number, (path, chunks) in enumerate(zip(raw, accepted, strict=False), 1):
        told, kept = b"".join(chunks), path.read_bytes()
        if kept != told:
            detail = f"{len(chunks)} chunks of {len(told)} bytes accepted, {len(kept)} bytes kept"
            yield Violation("accepted", f"recorder {number}: {detail}")


def check_lives(lives: Sequence[Life]) -> Iterator[Violation]:
    """Each of the daemon's *lives* goes on where the one before it ended."""
    for number, life in enumerate(lives, 1):
        if life.counted > (journaled := sum(map(len, life.accepted))):
            yield Violation("accepted", f"life {number} counted {life.counted} chunks, and had {journaled}")
    for number, (life, following) in enumerate(pairwise(lives), 2):
        if following.session != life.session:
            yield Violation("state", f"life {number} did not go on with {life.session}: {following.session}")
        elif not _extends(following.accepted, life.accepted):
            yield Violation("accepted", f"the index of life {number} lacks what had been accepted before")
        if following.listed[: len(life.listed)] != life.listed:
            was, now = life.listed[-3:], following.listed[max(0, len(life.listed) - 3) :]
            detail = f"the playlist of life {number} lacks what was listed before: {was}, then {now[:4]}"
            yield Violation("hls", detail)


def _extends(sizes: Sizes, before: Sizes) -> bool:
    return all(sizes[at : at + 1] and sizes[at][: len(old)] == old for at, old in enumerate(before))


def check_resumed(published: Published | None, status: dict[str, Any], given: int) -> Iterator[Violation]:
    """The client was acknowledged all that it did not give up, and daemon and client count alike."""
    if published is None or published.code != 1000:
        yield Violation("state", f"the publisher did not end in order: {published}")
    elif published.sessions != 1:
        yield Violation("state", f"{published.sessions} sessions")
    elif published.chunks + published.missing_chunks != given:
        yield Violation("accepted", f"{given} chunks were given, not as many settled: {published}")
    if status["chunks"] != given:
        yield Violation("accepted", f"{status['chunks']} chunks counted at the end, {given} were given")


def check_gaps(status: dict[str, Any], faults: int, dropped: int) -> Iterator[Violation]:
    """As many gaps as *faults*, and in all of them what the client has *dropped*."""
    lost = [gap["chunks"] for gap in status["gaps"]]
    if status["gap_count"] != faults or None in lost or sum(lost) != dropped:
        yield Violation("gaps", f"{faults} faults, {dropped} chunks given up, and gaps of {lost}")


def check_memory(halves: tuple[int, int], seconds: float) -> Iterator[Violation]:
    """In the second half of a long run as much is resident as in the first."""
    first, second = halves
    if seconds >= LONG and abs(second - first) > GROWTH * first:
        yield Violation("memory", f"{first / 1e6:.1f} MB in the first half, {second / 1e6:.1f} in the second")


def check_descriptors(before: Counter[str], after: Counter[str]) -> Iterator[Violation]:
    """No more is open *after* than *before*."""
    if after.total() > before.total():
        more = ", ".join(f"{count} {name}" for name, count in sorted((after - before).items()))
        yield Violation("descriptors", f"{after.total()} open, {before.total()} before the session: {more}")


def check_drift(drift: float | None) -> Iterator[Violation]:
    """Where it could be measured at all."""
    if drift is not None and drift >= DRIFT:
        yield Violation("drift", f"sound and picture moved {drift * 1000:.0f} ms apart")


def check_same(
    name: str, output: Path, control: Sequence[NumberedFrame], gaps: int = 0
) -> tuple[SinkCount, list[Violation]]:
    """*output* (a recording or a playlist) equals the control run, and decodes; *name* is the check.

    With *gaps* it lacks as many stretches of the control run, through which the last picture is held.
    """
    try:
        frames = read_video(output)
    except UnreadableMediaError as error:
        return SinkCount(0, len(control)), [Violation(name, str(error))]
    count = SinkCount(len(frames), missing(frames, control))
    found = []
    if gaps:
        found += [Violation(name, what) for what in _other_than_gaps(frames, control, gaps)]
    else:
        try:
            assert_same_frames(frames, control, TOLERANCE)
        except AssertionError as error:
            found.append(Violation(name, str(error)))
    if errors := decode_errors(output):
        found.append(Violation(name, f"{len(errors)} decode errors: {errors[0]}"))
    return count, found


def _other_than_gaps(
    frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame], gaps: int
) -> Iterator[str]:
    if (stretches := _gaps(frames, control)) != gaps:
        yield f"{stretches} stretches are missing, not {gaps}"
    if strangers := missing(control, fresh(frames)):
        yield f"{strangers} frames that the program does not have"
    if not continuous(frames):
        yield "a step back in time"


def fresh(frames: Sequence[NumberedFrame]) -> list[NumberedFrame]:
    """Those that show another picture than the one before: through a gap the last one is held."""
    return [*frames[:1], *(frame for before, frame in pairwise(frames) if frame[1] != before[1])]


def check_restarts(status: dict[str, Any], hit: Container[str]) -> Iterator[Violation]:
    """Neither the encoder nor a sink was restarted, but for those *hit*."""
    for part in ({"name": "encoder", **(status["encoder"] or {"restarts": 0})}, *status["sinks"]):
        if part["name"] not in hit and part["restarts"]:
            yield Violation("isolation", f"{part['name']} was restarted: {part['last_error']}")


def check_rtmp(
    connections: Sequence[Path], control: Sequence[NumberedFrame], *, cut: bool, gaps: int = 0
) -> tuple[SinkCount, list[Violation]]:
    """Each of *connections* is sound; unless a fault *cut* one, it is one, and lacks *gaps* stretches."""
    everything: list[NumberedFrame] = []
    found: list[Violation] = []
    for flv in connections:
        try:
            # Each connection's times begin with it.
            frames = placed(read_video(flv), control)
        except UnreadableMediaError:
            continue  # it was cut before its first frame
        everything += frames
        shown = fresh(frames) if gaps else frames
        found += [Violation("rtmp", f"{flv.name}: {what}") for what in _unsound(flv, shown, control)]
    count = SinkCount(len(everything), missing(everything, control))
    if not cut and (len(connections) != 1 or _gaps(everything, control) != gaps):
        found.append(
            Violation("isolation", f"{len(connections)} RTMP connections, {count.missing} frames missing")
        )
    if cut and (gaps := _gaps(everything, control)) > max(0, len(connections) - 1):
        found.append(Violation("rtmp", f"{gaps} gaps in {len(connections)} connections"))
    return count, found


def _unsound(flv: Path, frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame]) -> Iterator[str]:
    if not continuous(frames):
        yield "a step back in time"
    if not begins_with_keyframe(flv):
        yield "does not begin with a keyframe"
    if errors := decode_errors(flv):
        yield f"{len(errors)} decode errors: {errors[0]}"
    if strangers := missing(control, frames):
        yield f"{strangers} frames that the program does not have"


def begins_with_keyframe(path: Path) -> bool:
    """Whether the first video packet of *path* is a keyframe."""
    argv = [program("ffprobe"), "-v", "error", "-select_streams", "v:0", "-read_intervals", "%+#1"]
    argv += ["-show_entries", "packet=flags", "-of", "csv=p=0", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.startswith("K")


def missing(frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame]) -> int:
    """How many frames of *control* are not among *frames*, by time and number."""
    return len(_absent(frames, control))


def _absent(frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame]) -> list[int]:
    have = sorted(frames)
    absent = []
    for index, (pts, number) in enumerate(control):
        at = bisect.bisect_left(have, (pts - TOLERANCE - 1e-9, -2))
        near = []
        while at < len(have) and have[at][0] <= pts + TOLERANCE + 1e-9:
            near.append(have[at][1])
            at += 1
        if number not in near:
            absent.append(index)
    return absent


def _gaps(frames: Sequence[NumberedFrame], control: Sequence[NumberedFrame]) -> int:
    """In how many places frames of *control* are missing."""
    absent = _absent(frames, control)
    return sum(index - 1 not in absent[max(0, at - 1) : at] for at, index in enumerate(absent))
