"""Segments: where they begin, and what is seen of one that was cut short."""

from __future__ import annotations

import random
import subprocess
from typing import Literal

import pytest

from ingestd.media.ffmpeg import writer_args
from ingestd.media.frames import NS_PER_S
from ingestd.media.mp4_boxes import encode
from ingestd.media.segments import ends_whole, first_time
from ingestd.sinks.base import Place
from ingestd.sinks.hls import HlsSink
from tests.sinks.sources import program
from tests.support.packages import program as executable

BLOCK = 4096
WRAP = 2**33 * NS_PER_S // 90_000


def whole(data: bytes) -> bool:
    return ends_whole(len(data), lambda offset, size: data[offset : offset + size])


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, list[bytes]]]:
    """By container: the init segment, if any, and three segments of a second."""
    folder = tmp_path_factory.mktemp("segments")
    source = program(folder / "source.mkv", 3)
    made = {}
    containers: tuple[Literal["ts", "fmp4"], ...] = ("ts", "fmp4")
    for container in containers:
        place = Place(stream="s", recordings=folder, hls=folder / container, stem="s1")
        place.hls.mkdir()
        output = HlsSink(segment=1.0, window=0, container=container).output(place, ())
        argv = writer_args(executable("ffmpeg"), output.args, output.protocols)
        subprocess.run(argv, input=source.read_bytes(), capture_output=True, check=True, timeout=30)
        init = b"".join(path.read_bytes() for path in place.hls.glob("*-init.mp4"))
        made[container] = init, [path.read_bytes() for path in sorted(place.hls.glob("s1-0*"))]
    return made


@pytest.mark.parametrize("container", ["ts", "fmp4"])
def test_segments_of_ffmpeg(segments: dict[str, tuple[bytes, list[bytes]]], container: str) -> None:
    """They are whole; cut at any block of a disk they are not; they say when their picture begins."""
    init, media = segments[container]
    assert len(media) == 3
    for number, data in enumerate(media):
        assert whole(data)
        assert not any(whole(data[:size]) for size in range(0, len(data) - 1, BLOCK))
        assert first_time(init, data, 0) == pytest.approx(number * NS_PER_S, abs=2_000_000)


def test_the_clock_of_a_transport_stream_runs_in_a_circle(
    segments: dict[str, tuple[bytes, list[bytes]]],
) -> None:
    """After 26.5 hours it begins anew: the time nearest to the one that is expected is meant."""
    _, (_, data, _) = segments["ts"]
    for laps in (0, 1, 5):
        for off in (-3600, 0, 3600):
            near = laps * WRAP + off * NS_PER_S
            if near >= 0:
                assert first_time(b"", data, near) == pytest.approx(laps * WRAP + NS_PER_S, abs=2_000_000)


def test_what_is_neither_cannot_be_judged() -> None:
    """Not empty is all that can be asked of it, and when it begins cannot be told."""
    assert not whole(b"")
    assert whole(b"WEBVTT\n\n00:00.000 --> 00:01.000\n")
    assert first_time(b"", b"WEBVTT\n\n00:00.000 --> 00:01.000\n", 0) is None
    assert first_time(b"", b"", 0) is None
    assert first_time(b"", b"\x47" + bytes(187), 0) is None


@pytest.mark.parametrize("seed", range(5))
def test_boxes(seed: int) -> None:
    """Whole boxes are whole, and no more and no less."""
    rng = random.Random(seed)
    boxes = [encode(kind, rng.randbytes(rng.randrange(3000))) for kind in (b"styp", b"moof", b"mdat")]
    data = b"".join(boxes)
    ends = {len(boxes[0]), len(boxes[0] + boxes[1]), len(data)}
    assert {size for size in range(len(data) + 1) if whole(data[:size])} == ends
