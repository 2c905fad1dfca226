"""The splicer: one timeline of many lives."""

from __future__ import annotations

import random

import pytest

from ingestd.live.splice import Splice, Splicer
from ingestd.media.frames import NS_PER_MS, Frame


def frame(ms: float, track: int = 1) -> Frame:
    return Frame(track, round(ms * NS_PER_MS), True, b"")


def place(splicer: Splicer, splice: Splice, frames: list[Frame]) -> list[tuple[int, float]]:
    """What of *frames* goes onto the timeline, as (track, ms)."""
    placed = []
    for one in frames:
        moved = splice.apply(one)
        if moved is not None:
            splicer.passed(moved)
            placed.append((moved.track, moved.timestamp / NS_PER_MS))
    return placed


def test_the_first_recorder_begins_at_zero() -> None:
    """Wherever a recorder's clock starts, the timeline starts at 0."""
    splicer = Splicer("recorder")
    first = frame(5_000)
    assert place(splicer, splicer.begin(first), [first, frame(5_033)]) == [(1, 0), (1, 33)]


def test_the_next_recorder_follows_by_one_frame() -> None:
    """A second recorder goes on one frame after the last of either track."""
    splicer = Splicer("recorder")
    place(splicer, splicer.begin(frame(0)), [frame(0), frame(10, 2), frame(40), frame(50, 2), frame(80)])
    again = frame(700)
    assert place(splicer, splicer.begin(again), [again, frame(690, 2), frame(740)]) == [
        (1, 120),
        (2, 110),
        (1, 160),
    ]


def test_what_would_go_back_is_dropped() -> None:
    """Sound of the second recorder from before its first picture does not go back behind the first's."""
    splicer = Splicer("recorder")
    place(splicer, splicer.begin(frame(0)), [frame(0), frame(0, 2), frame(40), frame(60, 2)])
    again = frame(500)
    placed = place(splicer, splicer.begin(again), [again, frame(440, 2), frame(460, 2), frame(480, 2)])
    assert placed == [(1, 120), (2, 80), (2, 100)]


def test_encoders_are_in_place_already() -> None:
    """An encoder's later life keeps its times; what the earlier life has, track by track, is dropped."""
    splicer = Splicer("timeline")
    place(splicer, splicer.begin(frame(0)), [frame(0), frame(11, 2), frame(33), frame(34, 2)])
    later = [frame(11, 2), frame(33), frame(34, 2), frame(57, 2), frame(67)]
    assert place(splicer, splicer.begin(later[0]), later) == [(2, 57), (1, 67)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("times", ["recorder", "timeline"])
def test_never_back(seed: int, times: str) -> None:
    """Whatever lives come, each track's timestamps only ever increase, and none is below zero."""
    rng = random.Random(seed)
    splicer = Splicer(times)  # type: ignore[arg-type]
    last: dict[int, float] = {}
    for _ in range(6):
        start = rng.choice([0, 5, 1000, 3_600_000])
        steps = {1: rng.choice([16.7, 33.3, 40, 1000]), 2: rng.choice([2.5, 20, 60])}
        frames = [
            frame(start + step * n + rng.uniform(-1, 1), track)
            for track, step in steps.items()
            for n in range(30)
        ]
        frames.sort(key=lambda one: one.timestamp + rng.uniform(0, 50) * NS_PER_MS * (one.track == 2))
        per_track: dict[int, int] = {}
        ordered = []
        for one in frames:
            if one.timestamp > per_track.get(one.track, -(10**12)):
                per_track[one.track] = one.timestamp
                ordered.append(one)
        for track, at in place(splicer, splicer.begin(ordered[0]), ordered):
            assert at > last.get(track, -1)
            assert at >= 0
            last[track] = at
