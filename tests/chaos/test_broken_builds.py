"""A build with one piece broken on purpose is caught by the check made for it; the sound one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from chaos.catalogue import scenario
from chaos.flood import MIB, flood
from chaos.outcome import Bench, Outcome
from chaos.run import run
from tests.chaos.test_chaos import SEED, shown


def broken(bench: Bench, name: str) -> Bench:
    """*bench* with a daemon whose piece *name* is broken; see `chaos.breakage`."""
    return evolve(bench, program=("-m", "chaos.breakage", name))


def caught(outcome: Outcome) -> set[str]:
    """Which checks failed."""
    return {violation.check for violation in outcome.violations}


#: That the sound build is not caught is for the long run: `test_chaos.py` has it, too.
BUILDS = pytest.mark.parametrize(
    "sound", [pytest.param(True, marks=pytest.mark.full), False], ids=["sound", "broken"]
)


@pytest.mark.full
async def test_a_hub_that_starts_mid_gop_is_caught_by_hls(bench: Bench) -> None:
    """A writer that comes back behind its random access point leaves a hole in the playlist.

    That the sound build passes this run is `test_short_runs_equal_the_control_run`.
    """
    outcome = await run(scenario("smoke"), SEED, broken(bench, "mid-gop"))
    assert "hls" in caught(outcome), shown(outcome)
    assert outcome.sinks["hls"].missing > 0


@pytest.mark.full
async def test_replay_left_out_is_caught_by_recording(bench: Bench) -> None:
    """An encoder that comes back finds no media older than the hub's window.

    That the sound build passes this run is `test_short_runs_equal_the_control_run`.
    """
    outcome = await run(scenario("smoke"), SEED, broken(bench, "no-replay"))
    assert "recording" in caught(outcome), shown(outcome)
    assert outcome.sinks["mkv"].missing > 0


@pytest.mark.full
@pytest.mark.parametrize("sound", [True, False], ids=["sound", "broken"])
async def test_an_unbounded_window_is_caught_by_memory(bench: Bench, tmp_path: Path, sound: bool) -> None:
    """Memory grows with what is sent, and only in the broken build."""
    result = await flood(bench if sound else broken(bench, "unbounded"), tmp_path / "run", 64 * MIB)
    assert [violation.check for violation in result.violations()] == ([] if sound else ["memory"])


@pytest.mark.parametrize(
    "sound", [pytest.param(True, marks=pytest.mark.full), False], ids=["sound", "broken"]
)
async def test_an_acknowledgement_before_the_write_is_caught_by_accepted(bench: Bench, sound: bool) -> None:
    """The chunk that no longer fits on the disk must not count as accepted."""
    build = bench if sound else broken(bench, "early-acknowledgement")
    outcome = await run(scenario("disk-full-end"), SEED, build)
    if sound:
        assert outcome.good, shown(outcome)
    else:
        assert "accepted" in caught(outcome), shown(outcome)
