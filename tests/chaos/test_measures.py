"""What the fault runner measures of a process and of a recording, on made data."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import trio

from chaos.card import Card
from chaos.checks import check_descriptors, check_drift, check_memory
from chaos.drift import drift, spread
from chaos.resources import Resident, memory, open_files, peak_memory
from tests.chaos.test_lives import checks

MB = 1_000_000


def test_the_halves_of_a_run_are_compared_by_their_medians() -> None:
    """A peak in a half is none of its median."""
    assert Resident([50, 50, 900, 60, 60, 60]).halves() == (50, 60)
    assert Resident([50, 51, 60]).halves() == (50, 60)
    assert Resident([50]).halves() is None


def test_memory_that_grows_is_found_in_long_runs_only() -> None:
    """A short run's first half is all warming up."""
    assert list(check_memory((60 * MB, 62 * MB), 1800)) == []
    assert checks(check_memory((60 * MB, 64 * MB), 1800)) == ["memory"]
    assert list(check_memory((60 * MB, 64 * MB), 60)) == []


async def test_memory_is_sampled() -> None:
    """Of this process; one that is not there gives no sample."""
    mine, none = Resident(), Resident()
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.watch, os.getpid)
            nursery.start_soon(none.watch, lambda: 2**22 + 1)
    assert len(mine.samples) == 1
    assert 10 * MB < mine.samples[0] <= peak_memory(os.getpid()) == memory(os.getpid())[1]
    assert none.samples == []


def test_a_descriptor_that_stays_open_is_named(tmp_path: Path) -> None:
    """Only what is more than before."""
    before = open_files(os.getpid())
    with (tmp_path / "left.txt").open("w"):
        after = open_files(os.getpid())
    (violation,) = check_descriptors(before, after)
    assert violation.check == "descriptors"
    assert violation.detail.endswith(f": 1 {tmp_path / 'left.txt'}")
    assert list(check_descriptors(after, before)) == []
    assert list(check_descriptors(Counter(socket=3), Counter(socket=2, pipe=1))) == []


def test_drift_is_the_distance_between_the_farthest() -> None:
    """Wherever they are: an offset that stays the same is no drift."""
    assert spread([0.1, 0.1, 0.1]) == 0
    assert spread([0.01, -0.02, 0.025]) == pytest.approx(0.045)
    assert spread([0.01]) is None
    assert checks(check_drift(0.041)) == ["drift"]
    assert list(check_drift(0.039)) == list(check_drift(None)) == []


def test_sound_that_runs_away_is_found(made: Card, ffmpeg: str, tmp_path: Path) -> None:
    """Sound that is 1 % too slow is found, sound that is late throughout is not; nor is the card itself."""
    whole = tmp_path / "card.webm"
    whole.write_bytes(b"".join(made.chunks))

    def changed(name: str, times: str) -> Path:
        argv = [ffmpeg, "-v", "error", "-i", str(whole), "-map", "0", "-c", "copy"]
        target = tmp_path / name
        subprocess.run([*argv, "-bsf:a", f"setts=ts={times}", str(target)], check=True)
        return target

    assert (drift(whole, 20.0) or 0.0) < 0.01
    assert (drift(changed("late.mkv", "TS+150"), 20.0) or 0.0) < 0.01
    assert drift(changed("slow.mkv", "TS*1.01"), 20.0) == pytest.approx(0.1, abs=0.03)
