"""One row a scenario: for people as a table, for programs as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from chaos.run import Outcome

_SINKS = ("mkv", "hls", "rtmp")
_COLUMNS = ("scenario", "runs", "faults", "accepted", "recorded")


def row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The sum of one scenario's *outcomes*: plain JSON types, times in seconds, memory in bytes."""
    recovered = [seconds for outcome in outcomes for seconds in outcome.recovered]
    failed = [outcome for outcome in outcomes if not outcome.good]
    return {
        "scenario": outcomes[0].scenario,
        "runs": len(outcomes),
        "seeds": [outcome.seed for outcome in outcomes],
        "faults": sum(outcome.injected for outcome in outcomes),
        "published": sum(outcome.published for outcome in outcomes),
        "accepted": sum(outcome.accepted for outcome in outcomes),
        "recorded": sum(outcome.recorded for outcome in outcomes),
        "sinks": {
            name: {
                "sent": sum(outcome.sinks[name].sent for outcome in outcomes if name in outcome.sinks),
                "missing": sum(outcome.sinks[name].missing for outcome in outcomes if name in outcome.sinks),
            }
            for name in _SINKS
        },
        "recovery_median": round(statistics.median(recovered), 3) if recovered else None,
        "recovery_max": round(max(recovered), 3) if recovered else None,
        "peak_memory": max(outcome.peak_memory for outcome in outcomes),
        "verdict": "failed" if failed else "passed",
        "failures": [
            {
                "seed": outcome.seed,
                "directory": str(outcome.kept),
                "violations": [{"check": v.check, "detail": v.detail} for v in outcome.violations],
            }
            for outcome in failed
        ],
    }


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """*rows* for people: sinks as frames sent, and of the control run's those missing."""
    made = Table(title="faults, against the control run")
    for name in _COLUMNS:
        made.add_column(name, justify="left" if name == "scenario" else "right")
    for name in _SINKS:
        made.add_column(f"{name} sent/missing", justify="right")
    made.add_column("recovery median/max s", justify="right")
    made.add_column("peak MB", justify="right")
    made.add_column("verdict")
    for one in rows:
        sinks = [f"{one['sinks'][name]['sent']}/{one['sinks'][name]['missing']}" for name in _SINKS]
        times = "–"
        if one["recovery_median"] is not None:
            times = f"{one['recovery_median']:.2f}/{one['recovery_max']:.2f}"
        seeds = ", ".join(str(failure["seed"]) for failure in one["failures"])
        verdict = f"[red]failed: seed {seeds}" if seeds else "[green]passed"
        counts = [one["scenario"], *(str(one[name]) for name in _COLUMNS[1:])]
        made.add_row(*counts, *sinks, times, f"{one['peak_memory'] / 1e6:.0f}", verdict)
    return made
