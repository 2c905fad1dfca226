"""One row a scenario: for people as a table, for programs as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from chaos.outcome import Outcome, Strike

_SINKS = ("mkv", "hls", "rtmp")
_WIDE = 150  # characters that the whole table takes
_COLUMNS = ("scenario", "runs", "faults", "accepted", "recorded")


def row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The sum of one scenario's *outcomes*: plain JSON types, times in seconds, memory in bytes.

    What is a list but ``failures`` has an entry a run, in the order of ``seeds``.
    """
    failed = [outcome for outcome in outcomes if not outcome.good]
    drifts = [outcome.drift for outcome in outcomes if outcome.drift is not None]
    return {
        "scenario": outcomes[0].scenario,
        "runs": len(outcomes),
        "seeds": [outcome.seed for outcome in outcomes],
        "faults": sum(len(outcome.strikes) for outcome in outcomes),
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
        **_recovery([seconds for outcome in outcomes for seconds in outcome.recovered]),
        "by_fault": _by_fault([strike for outcome in outcomes for strike in outcome.strikes]),
        "drift": round(max(drifts), 4) if drifts else None,
        "peak_memory": max(outcome.peak_memory for outcome in outcomes),
        "resident": [outcome.resident for outcome in outcomes],
        "descriptors": [outcome.descriptors for outcome in outcomes],
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


def _recovery(seconds: Sequence[float]) -> dict[str, float | None]:
    return {
        "recovery_median": round(statistics.median(seconds), 3) if seconds else None,
        "recovery_max": round(max(seconds), 3) if seconds else None,
    }


def _by_fault(strikes: Sequence[Strike]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({strike.fault for strike in strikes}):
        struck = [strike.recovered for strike in strikes if strike.fault == name]
        back = [seconds for seconds in struck if seconds is not None]
        found[name] = {"faults": len(struck), **_recovery(back)}
    return found


def tables(rows: Sequence[dict[str, Any]], width: int) -> list[Table]:
    """*rows* for people: one table, or one for each row where *width* characters are not enough for that."""
    told = [_cells(one) for one in rows]
    if width >= _WIDE:
        made = Table(*told[0], title="faults, against the control run")
        for cells in told:
            made.add_row(*cells.values())
        return [made]
    narrow = []
    for cells in told:
        narrow.append(Table(show_header=False))
        for name, cell in cells.items():
            narrow[-1].add_row(name, cell)
    return narrow


def _cells(one: dict[str, Any]) -> dict[str, str]:
    """What a table says of a row: sinks as frames sent, and of the control run's those missing."""
    sinks = {f"{name} sent/missing": one["sinks"][name] for name in _SINKS}
    times = "–"
    if one["recovery_median"] is not None:
        times = f"{one['recovery_median']:.2f}/{one['recovery_max']:.2f}"
    seeds = ", ".join(str(failure["seed"]) for failure in one["failures"])
    return {
        **{name: str(one[name]) for name in _COLUMNS},
        **{name: f"{count['sent']}/{count['missing']}" for name, count in sinks.items()},
        "recovery median/max s": times,
        "drift ms": "–" if one["drift"] is None else f"{one['drift'] * 1000:.0f}",
        "MB 1st/2nd half/peak": _memory(one),
        "verdict": f"[red]failed: seed {seeds}" if seeds else "[green]passed",
    }


def _memory(one: dict[str, Any]) -> str:
    """Of the run whose halves differ most; the peak of all."""
    halves = [halves for halves in one["resident"] if halves]
    first, second = max(halves, key=lambda pair: abs(pair[1] - pair[0]), default=(0, 0))
    return "/".join(f"{size / 1e6:.0f}" for size in (first, second, one["peak_memory"]))
