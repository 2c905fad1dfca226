"""Recorders whose own clock is old: where counters of 31, 32 and 33 bits begin anew, nothing happens."""

from __future__ import annotations

import random

import pytest
from attrs import evolve

from ingestd.live.intake import Intake, Piece
from ingestd.live.splice import Splicer
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_S, Event, Frame
from tests.media.tools import plain
from tests.support.captures import Capture, captures
from tests.support.clocks import WRAPS, moved

NAMES = (
    "cv-vp8-250.webm",
    "cv-h264webm-100.mkv",
    "gum-audio-250.webm",
    "cv-mp4avc-250.mp4",
    "gum-mp4vp9-250.mp4",
)

every_recorder = pytest.mark.parametrize(
    "recorded", [c for c in captures(webm_only=False) if c.name in NAMES], ids=lambda recorded: recorded.name
)
every_wrap = pytest.mark.parametrize("wrap", WRAPS)


def frames_of(pieces: list[bytes]) -> list[Frame]:
    demuxer = SniffingDemuxer()
    events = [event for piece in pieces for event in demuxer.feed(piece)] + demuxer.close()
    return [event for event in plain(events) if isinstance(event, Frame)]


def across(data: bytes, wrap: str) -> tuple[bytes, int]:
    """*data* with the wrap in its middle, and by how many seconds its clock was moved."""
    times = [frame.timestamp for frame in frames_of([data])]
    seconds = round(WRAPS[wrap] - (min(times) + max(times)) / 2 / NS_PER_S)
    assert min(times) / NS_PER_S + seconds < WRAPS[wrap] < max(times) / NS_PER_S + seconds
    return moved(data, seconds), seconds


def cut(data: bytes, seed: int) -> list[bytes]:
    """*data* in pieces of any size."""
    rng, pieces = random.Random(seed), []
    while data:
        size = rng.choice([1, 2, 5, 50, 5_000, 100_000])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@every_recorder
@every_wrap
def test_frames_keep_their_distances(recorded: Capture, wrap: str) -> None:
    """Each frame's time is the old one and the same number of seconds, however the bytes are cut."""
    data, seconds = across(recorded.data(), wrap)
    expected = [evolve(f, timestamp=f.timestamp + seconds * NS_PER_S) for f in frames_of([recorded.data()])]
    assert frames_of([data]) == expected
    for seed in range(3):
        assert frames_of(cut(data, seed)) == expected


@every_recorder
@every_wrap
def test_a_session_does_not_see_it(recorded: Capture, wrap: str) -> None:
    """On the session's timeline, which begins at 0, every frame is where it would be without."""
    data, _ = across(recorded.data(), wrap)
    assert placed([data]) == placed(cut(data, 4)) == placed([recorded.data()])


def placed(pieces: list[bytes]) -> list[Event]:
    """The frames as they go into the source's hub."""
    intake = Intake(Splicer("recorder"), 2**24)
    found: list[Piece] = []
    for piece in pieces:
        found += intake.feed(piece)
    found += intake.close()
    return plain([frame for piece in found for frame in piece.frames])
