"""The fault runner on short runs: outputs are the control run's. `make chaos` has the long ones."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from click.testing import CliRunner

from chaos.catalogue import SCENARIOS, scenario
from chaos.checks import SinkCount, Violation, missing
from chaos.cli import main
from chaos.outcome import Bench, Outcome, Strike
from chaos.report import row, tables
from chaos.run import run
from chaos.scenario import Scenario

#: With it, encoder and HLS writer are both hit in the short smoke run.
SEED = 1


def shown(outcome: Outcome) -> str:
    return f"seed {outcome.seed}: " + "; ".join(map(str, outcome.violations))


@pytest.mark.parametrize(
    "chosen",
    [scenario("smoke"), pytest.param(scenario("cut-publisher"), marks=pytest.mark.full)],
    ids=["smoke", "cut-publisher"],
)
async def test_short_runs_equal_the_control_run(bench: Bench, chosen: Scenario) -> None:
    """Faults strike, and nothing that was accepted is missing anywhere."""
    outcome = await run(chosen, SEED, bench)
    assert outcome.good, shown(outcome)
    assert outcome.strikes
    assert outcome.recorded > 60
    assert outcome.sinks["hls"].missing == outcome.sinks["mkv"].missing == 0


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chosen", SCENARIOS, ids=lambda chosen: chosen.name)
async def test_every_scenario(bench: Bench, chosen: Scenario) -> None:
    """One run of half a minute each."""
    outcome = await run(chosen, 0, evolve(bench, seconds=30.0))
    assert outcome.good, shown(outcome)


def test_the_same_seed_strikes_at_the_same_moments() -> None:
    """What a seed decides, it decides alike; and each run has at least one fault, in time to get over it."""
    for one in SCENARIOS:
        first, again = (one.moments(one.rng(7), 60) for _ in range(2))
        assert first == again
        assert first
        assert all(at >= one.first for at in first)
        assert all(at < 60 - one.tail for at in first[1:])


def test_what_is_missing_is_counted_by_time_and_number() -> None:
    """A frame that is late, or another one, does not stand in for the one that is not there."""
    control = [(n / 30, n) for n in range(10)]
    assert missing(control, control) == 0
    assert missing(control[:4] + control[6:], control) == 2
    assert missing([(pts + 0.005, number) for pts, number in control], control) == 10
    assert missing([(pts, number + 1) for pts, number in control], control) == 10


def test_a_row_sums_up_and_names_the_seeds_that_failed() -> None:
    """The JSON row has what the table shows."""
    good = Outcome(scenario="kill-hls", seed=5, accepted=10, recorded=90, sinks={"mkv": SinkCount(90, 0)})
    good.strikes = [Strike("kill-hls", 1.0), Strike("kill-hls", 3.0)]
    good.peak_memory, good.resident, good.descriptors, good.drift = 51_000_000, (40, 41), (9, 9), 0.01
    bad = Outcome(scenario="kill-hls", seed=6, accepted=10, recorded=89, sinks={"mkv": SinkCount(89, 1)})
    bad.strikes = [Strike("stop-hls", 2.0), Strike("cut-publisher", None)]
    bad.violations.append(Violation("recording", "one is missing"))
    made = row([good, bad])
    shown = json.loads(json.dumps(made))
    assert (made["runs"], made["accepted"], made["recorded"], made["faults"]) == (2, 20, 179, 4)
    assert made["sinks"]["mkv"] == {"sent": 179, "missing": 1}
    assert (made["recovery_median"], made["recovery_max"]) == (2.0, 3.0)
    assert made["by_fault"] == {
        "cut-publisher": {"faults": 1, "recovery_median": None, "recovery_max": None},
        "kill-hls": {"faults": 2, "recovery_median": 2.0, "recovery_max": 3.0},
        "stop-hls": {"faults": 1, "recovery_median": 2.0, "recovery_max": 2.0},
    }
    assert (shown["resident"], shown["descriptors"]) == ([[40, 41], None], [[9, 9], None])
    assert (made["drift"], made["peak_memory"]) == (0.01, 51_000_000)
    assert made["verdict"] == "failed"
    assert [failure["seed"] for failure in made["failures"]] == [6]
    assert [one.row_count for one in tables([made, made], 160)] == [2]
    assert [len(one.columns) for one in tables([made, made], 80)] == [2, 2]


def test_the_command_line_lists_and_refuses() -> None:
    """--list names every scenario; one that is not there is a usage error."""
    listed = CliRunner().invoke(main, ["--list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == [one.name for one in SCENARIOS]
    refused = CliRunner().invoke(main, ["--only", "kill-everyone"])
    assert refused.exit_code == 2
    assert "kill-everyone" in refused.output
    assert CliRunner().invoke(main, ["--runs", "2", "--faults", "50"]).exit_code == 2
