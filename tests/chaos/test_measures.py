"""What the fault runner measures of a process and of a recording, on made data."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from chaos.card import Card
from chaos.checks import check_descriptors, check_drift, check_gaps, check_memory, check_resumed, fresh
from chaos.drift import drift, spread
from chaos.publisher import _reset
from chaos.resources import Resident, memory, open_files, peak_memory
from ingestd.client import Published
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


def test_gaps_are_as_many_as_faults_and_no_longer_than_what_was_given_up() -> None:
    """Chunks that are missing for a reason that nobody knows are none of a publisher's gaps."""

    def told(*chunks: int | None) -> dict[str, Any]:
        return {"gap_count": len(chunks), "gaps": [{"chunks": count} for count in chunks]}

    assert list(check_gaps(told(), 0, 0)) == list(check_gaps(told(3, 4), 2, 7)) == []
    assert checks(check_gaps(told(3), 0, 3)) == ["gaps"]
    assert checks(check_gaps(told(3, 4), 2, 8)) == ["gaps"]
    assert checks(check_gaps(told(None), 1, 0)) == ["gaps"]


def test_a_publisher_that_was_promised_less_than_it_gave_is_found() -> None:
    """Chunks acknowledged and given up are all that there were, and the daemon counts as many."""
    done = Published(
        complete=True, code=1000, reason="", gave_up=False, chunks=10, bytes=100, missing_chunks=0,
        missing_bytes=0, gaps=0, reconnects=3, sessions=1, session="S1",
    )  # fmt: skip
    assert list(check_resumed(done, {"chunks": 10}, 10)) == []
    assert checks(check_resumed(done, {"chunks": 9}, 10)) == ["accepted"]
    assert checks(check_resumed(evolve(done, chunks=9), {"chunks": 10}, 10)) == ["accepted"]
    assert checks(check_resumed(evolve(done, sessions=2), {"chunks": 10}, 10)) == ["state"]
    assert checks(check_resumed(evolve(done, code=4412), {"chunks": 10}, 10)) == ["state"]
    assert checks(check_resumed(None, {"chunks": 10}, 10)) == ["state"]


def test_a_picture_that_is_held_is_not_a_new_one() -> None:
    """Only the first of those that show the same."""
    assert fresh([(0.0, 1), (0.1, 1), (0.2, 2), (0.3, 2), (0.4, 1)]) == [(0.0, 1), (0.2, 2), (0.4, 1)]
    assert fresh([]) == []


def test_a_reset_is_felt_at_both_ends() -> None:
    """And the socket stays its owner's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        _reset(near.fileno())
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


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
