"""What an attempt was fed: where FFmpeg may cut, and how much lies between."""

from __future__ import annotations

import random

import pytest

from ingestd.live.batch import Batch, Configuration
from ingestd.live.fed import Cut, Fed
from ingestd.media.frames import NS_PER_MS, Frame
from tests.live.tools import AUDIO, BOTH

GOP = 10


def frames(rng: random.Random, count: int, *, late: int = 0) -> list[Frame]:
    """*count* pictures, 40 ms apart, and sounds of 23 ms, which come *late* ms after their time."""
    pictures = [Frame(1, n * 40, n % GOP == 0, rng.randbytes(rng.randrange(50, 90))) for n in range(count)]
    sounds = [Frame(2, n * 23, True, rng.randbytes(rng.randrange(5, 9))) for n in range(count * 40 // 23)]
    inorder = sorted(pictures + sounds, key=lambda f: (f.timestamp + late * (f.track == 2), f.track))
    return [Frame(f.track, f.timestamp * NS_PER_MS, f.keyframe, f.payload) for f in inorder]


def feed(sent: list[Frame], configuration: Configuration, rng: random.Random) -> Fed:
    """In batches of any size."""
    fed, at = None, 0
    while at < len(sent):
        size = rng.randrange(1, 30)
        batch = Batch(configuration, tuple(sent[at : at + size]), 100 + at, 0)
        fed = fed or Fed.beginning(batch)
        fed.add(batch)
        at += size
    assert fed is not None
    return fed


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("late", [-100, 0, 100])
def test_payload_between_cuts(seed: int, late: int) -> None:
    """Never more than FFmpeg writes there, in the order of time; where the frames are in order, just that."""
    rng = random.Random(seed)
    sent = [f for f in frames(rng, 95, late=late) if late >= 0 or f.timestamp >= 0]
    while sent[0].track == 2:
        del sent[0]
    fed = feed(sent, BOTH, rng)
    for first in range(0, 90, GOP):
        begin, end = first * 40 * NS_PER_MS, (first + GOP) * 40 * NS_PER_MS
        cut = fed.nearest(begin + 3 * NS_PER_MS)
        assert cut.timestamp == begin
        assert sent[cut.seq - 100].timestamp == begin
        assert sent[cut.seq - 100].keyframe
        last = fed.nearest(end) if end <= 90 * 40 * NS_PER_MS else fed.end()
        there = sum(len(f.payload) for f in sent if begin <= f.timestamp < end)
        assert last.payload - cut.payload <= there
        if not late:
            assert last.payload - cut.payload == there
    everything = sum(len(f.payload) for f in sent)
    assert fed.end().payload <= everything
    assert fed.end().seq == 100 + len(sent)
    assert fed.end().timestamp > max(f.timestamp for f in sent if f.track == 1)


def test_without_pictures_any_frame_may_be_a_cut() -> None:
    """FFmpeg cuts audio anywhere."""
    rng = random.Random(1)
    sent = [Frame(2, n * 20 * NS_PER_MS, True, b"x" * 10) for n in range(50)]
    fed = feed(sent, Configuration((AUDIO,)), rng)
    assert fed.nearest(333 * NS_PER_MS) == Cut(117, 340 * NS_PER_MS, 170)
    fed.forget_before(Cut(117, 0))
    assert fed.nearest(0).seq == 117


def test_before_anything_is_added_there_is_its_beginning() -> None:
    """The first frame is a place to begin at."""
    batch = Batch(BOTH, (Frame(1, 7, True, b"x"),), 5, 0)
    assert Fed.beginning(batch).nearest(99) == Cut(5, 7)
