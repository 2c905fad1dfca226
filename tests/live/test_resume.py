"""A recording that a later daemon goes on with: its files are those of a run without a crash."""

# ruff: noqa: ASYNC240  the tests look at small files

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ingestd.config import SupervisorConfig
from ingestd.live.hub import Hub
from ingestd.live.part import PART
from ingestd.live.recording import Recording
from ingestd.live.recovery import claimed, recover
from ingestd.live.resume import notes_of
from ingestd.live.supervisor import Health, State
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.programs import Program, fresh_hub, in_files, live, made_up, mortal
from tests.support.packages import program as binary

KINDS = ("plain", "reordered", "fine", "sound", "changing", "quiet")
BEGAN = 1_700_000_000.0

MakeRecording = Callable[..., Recording]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("recordings", "hls", "journal"):
        (tmp_path / name).mkdir()
    return place_in(tmp_path)


def place_in(root: Path) -> Place:
    return Place(
        stream="cam", recordings=root / "recordings", hls=root / "hls", catalog=root / "catalog", stem="s1"
    )


def recording(hub: Hub, place: Place, **options: Any) -> Recording:
    sink = FileSink(name="file", **options)
    journal = place.recordings.parent / "journal"
    return Recording(
        "cam", binary("ffmpeg"), sink, place, SupervisorConfig(), hub, Health("cam", "file"),
        notes_of(journal, sink), clock=lambda: BEGAN,
    )  # fmt: skip


async def control(program: Program, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """What a recording that nothing befalls makes of *program*."""
    root = tmp_path / "control"
    for name in ("recordings", "journal"):
        (root / name).mkdir(parents=True)
    await live(recording(fresh_hub(random.Random(0)), place_in(root), **options), program, random.Random(1))
    return in_files(root / "recordings")


def clear(place: Place) -> None:
    for path in (*place.recordings.rglob("*"), *(place.recordings.parent / "journal").iterdir()):
        if path.is_file():
            path.unlink()


async def go_on(place: Place, program: Program, rng: random.Random, **options: Any) -> Recording:
    """A daemon that has all of *program* takes the recording up, to the end."""
    run = recording(fresh_hub(rng), place, **options)
    await live(run, program, rng, at_once=rng.choice((0, rng.randrange(len(program.frames)))))
    assert run.health.state is State.STOPPED
    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rotate", [0.0, 2.0])
async def test_a_daemon_that_dies_at_any_step_costs_no_frame(
    place: Place, tmp_path: Path, kind: str, rotate: float
) -> None:
    """Killed at any file operation, in the middle of a write, too, all goes on as if nothing had been."""
    options = {"rotate_every": rotate, "path": "{session}-{part}"}
    program = made_up(random.Random(kind), kind)
    expected = await control(program, tmp_path, **options)
    assert len(expected) == (1 if not rotate and kind != "changing" else len(expected))
    steps = 0
    while True:
        rng = random.Random(f"{kind} {rotate} {steps}")
        clear(place)
        run = recording(fresh_hub(rng), place, **options)
        with mortal(tmp_path, steps) as disk:
            await live(run, program, rng, at_once=rng.choice((0, 100)))
        died = disk.calls > steps
        resumed = await go_on(place, program, rng, **options)
        got = in_files(place.recordings)
        if got != expected:
            import zdiff

            zdiff.show(got, expected)
        assert got == expected, f"seed {kind} {rotate} {steps}: {disk.done}"
        assert resumed.dropped_frames == 0
        assert resumed.finished == len(expected)
        if not died:
            break
        steps += rng.choice((1, 1, 1, 4)) if steps < 40 else rng.randrange(1, 12)
    assert steps > 20
