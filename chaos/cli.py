"""The command line of the fault runner."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chaos.catalogue import SCENARIOS, scenario
from chaos.outcome import Bench, Outcome
from chaos.report import row, tables
from chaos.run import run

_WORK = Path(__file__).parents[1] / "var" / "chaos"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--runs", type=click.IntRange(1), help="How many runs of each scenario. Default: 1.")
@click.option(
    "--faults", type=click.IntRange(1), help="Instead: as many runs as it takes to strike so often."
)
@click.option("--seconds", default=30.0, show_default=True, help="How long a run publishes.")
@click.option("--seed", type=int, help="Of the first run; the next ones count up. Default: a random one.")
@click.option("--only", multiple=True, help="A scenario's name, any number of times. Default: all but smoke.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a scenario on stdout, no table.")
@click.option("--keep", is_flag=True, help="Keep the directories of good runs, too.")
@click.option(
    "--work", type=click.Path(path_type=Path), default=_WORK, help="Where to work. Default: var/chaos."
)
@click.option("--list", "listing", is_flag=True, help="Say which scenarios there are, and stop.")
def main(
    runs: int | None,
    faults: int | None,
    seconds: float,
    seed: int | None,
    only: tuple[str, ...],
    as_json: bool,
    keep: bool,
    work: Path,
    listing: bool,
) -> None:
    """Run the daemon, publish numbered frames, inject faults, and compare every output with a control run.

    Scenarios that need a network namespace or a file system of their own want root. A failed run keeps its
    directory. The same seed strikes at the same moments of the same publication.

    Exit status: 0 all passed, 1 something failed, 2 wrong usage.
    """
    names = {known.name: known.about for known in SCENARIOS}
    if listing:
        for name, about in names.items():
            click.echo(f"{name:20} {about}")
        return
    if unknown := [name for name in only if name not in names]:
        raise click.UsageError(f"there is no scenario {unknown[0]!r}; --list shows them all")
    if runs and faults:
        raise click.UsageError("give either --runs or --faults")
    chosen = only or tuple(name for name in names if name != "smoke")
    first = random.randrange(10_000) if seed is None else seed
    bench = Bench(work.absolute(), seconds, keep=keep)
    # Not cut to a terminal's width where there is none.
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 160)
    console.print(f"seeds from {first}")
    rows = trio.run(_all, chosen, first, runs or 1, faults, bench)
    if as_json:
        for one in rows:
            click.echo(json.dumps(one))
    else:
        for table in tables(rows, console.width):
            console.print(table)
    sys.exit(any(one["verdict"] == "failed" for one in rows))


async def _all(
    names: tuple[str, ...], first: int, runs: int, faults: int | None, bench: Bench
) -> list[dict[str, Any]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    rows = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for name in names:
            rows.append(row(await _some(name, first, runs, faults, bench, progress)))
    return rows


async def _some(
    name: str, first: int, runs: int, faults: int | None, bench: Bench, progress: Progress
) -> list[Outcome]:
    """So many *runs* of the scenario *name*, or as many as have so many *faults*."""
    chosen = scenario(name)
    planned = [len(chosen.moments(chosen.rng(first + at), bench.seconds)) for at in range(runs)]
    task = progress.add_task(name, total=faults or sum(planned))
    outcomes: list[Outcome] = []
    for seed in itertools.count(first):
        progress.update(task, description=f"{name}, seed {seed}")
        outcomes.append(await run(chosen, seed, bench, lambda: progress.advance(task)))
        _tell(outcomes[-1], progress.console)
        struck = sum(len(outcome.strikes) for outcome in outcomes)
        # A run without any fault has failed before the first: the next one would, too.
        if (struck >= faults or not outcomes[-1].strikes) if faults else len(outcomes) == runs:
            break
    progress.remove_task(task)
    return outcomes


def _tell(outcome: Outcome, progress: Console) -> None:
    verdict = "passed" if outcome.good else "FAILED"
    recovered = " ".join(f"{seconds:.2f}" for seconds in outcome.recovered)
    progress.print(
        f"{outcome.scenario} seed {outcome.seed}: {verdict} in {outcome.took:.0f} s, "
        f"{outcome.accepted}/{outcome.published} chunks, back after: {recovered or '–'}",
        highlight=False,
    )
    for violation in outcome.violations:
        progress.print(f"  {violation}", markup=False, highlight=False)
    if outcome.kept:
        progress.print(f"  kept: {outcome.kept}", markup=False, highlight=False)
