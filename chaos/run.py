"""One run of one scenario: live, with faults, then every output against the control run."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

from chaos.card import Card, card
from chaos.checks import Violation, check_descriptors, check_memory
from chaos.compare import accepted_chunks, compare, control_frames
from chaos.disk import disk
from chaos.gate import gate
from chaos.live import PATIENCE, Live
from chaos.network import network
from chaos.outcome import Bench, Outcome, Strike
from chaos.publisher import Publisher, ResumablePublisher
from chaos.resources import Resident, open_files, peak_memory
from chaos.scenario import Scenario
from tests.support.daemon import daemon
from tests.support.packages import program
from tests.support.processes import LeftBehindError, nothing_left_behind
from tests.support.rtmps_server import Certificate, RtmpServer

PIPELINE = """
[video]
codec = "h264"
size = "320x180"
preset = "ultrafast"
[[sinks]]
type = "file"
format = "mkv"
name = "mkv"
"""
SINKS = """
[[sinks]]
type = "file"
format = "raw"
name = "raw"
[[sinks]]
type = "hls"
window = 0
[[sinks]]
type = "rtmp"
url = "rtmps://localhost:{port}/{app}"
ca_file = "{ca}"
key = "cam"
"""

#: So that attempts do not run out when faults come every few seconds.
SUPERVISOR = '[supervisor]\nhealthy_after = "1s"\nstall_timeout = "{stall}"\nretry_failed_every = "1s"\n'
CARDS = 3  # different publications; a run's seed says which


async def run(
    scenario: Scenario, seed: int, bench: Bench, struck: Callable[[], None] = lambda: None
) -> Outcome:
    """One run, bounded in time; *struck* is called after each fault.

    Its directory is removed if all is well, unless the bench keeps them.
    """
    outcome = Outcome(scenario=scenario.name, seed=seed)
    directory = bench.work / f"{scenario.name}-{seed}"
    shutil.rmtree(directory, ignore_errors=True)
    begin = time.monotonic()
    try:
        with trio.fail_after(4 * bench.seconds + 4 * PATIENCE):
            await _run(scenario, seed, bench, directory, outcome, struck)
    except* LeftBehindError as group:
        _note(outcome, "processes", group)
    except* (AssertionError, OSError, trio.TooSlowError) as group:
        _note(outcome, "recovery", group)
    outcome.took = time.monotonic() - begin
    if outcome.good and not bench.keep:
        await trio.to_thread.run_sync(shutil.rmtree, directory)
    else:
        outcome.kept = directory
    return outcome


def _note(outcome: Outcome, check: str, group: BaseExceptionGroup[BaseException]) -> None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _note(outcome, check, error)
        else:
            outcome.violations.append(Violation(check, f"{type(error).__name__}: {error}"))


async def _run(
    scenario: Scenario, seed: int, bench: Bench, directory: Path, outcome: Outcome, struck: Callable[[], None]
) -> None:
    picture = await card(program("ffmpeg"), bench.seconds, seed % CARDS, bench.work / "cards")
    outcome.published = len(picture.chunks)
    with ExitStack() as stack:
        stack.enter_context(nothing_left_behind())
        live = _set_up(scenario, bench, directory, picture, stack, outcome)
        before = open_files(live.daemon.process.pid)
        resident = Resident()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resident.watch, lambda: live.daemon.process.pid)
            status = await _live(scenario, seed, bench, live, outcome, struck)
            nursery.cancel_scope.cancel()
        await _measure(live, before, resident, bench, outcome)
        if await trio.to_thread.run_sync(live.daemon.stop) != 0:
            live.note("state", f"the daemon's exit code is {live.daemon.exit_code}")
        await trio.to_thread.run_sync(live.server.wait_idle)
        accepted = accepted_chunks(live, status, outcome)
        # Behind a gap the journal repeats the headers.
        outcome.accepted = sum(map(len, accepted)) - (len(accepted) - 1 if scenario.resumable else 0)
        chunks = [chunk for recorder in accepted for chunk in recorder]
        if scenario.gaps:
            chunks = picture.chunks  # whose frames show where something is missing
        control = await control_frames(directory / "control", PIPELINE, chunks)
        await trio.to_thread.run_sync(compare, scenario, live, status, accepted, control, outcome)


def _set_up(
    scenario: Scenario, bench: Bench, directory: Path, picture: Card, stack: ExitStack, outcome: Outcome
) -> Live:
    """The daemon, and what surrounds it, until *stack* ends."""
    server = stack.enter_context(RtmpServer())
    port = server.tls_ports[Certificate.RIGHT]
    before_it = stack.enter_context(gate(port)) if scenario.gate else None
    cable = stack.enter_context(network()) if scenario.network else None
    small = stack.enter_context(disk(directory / "var", scenario.disk)) if scenario.disk else None
    stack.enter_context(_saved(directory / "var", outcome, scenario.disk is not None))
    sinks = SINKS.format(port=before_it.port if before_it else port, app=server.app, ca=server.ca_file)
    running = stack.enter_context(
        daemon(
            directory,
            scenario.pipeline + PIPELINE + sinks + scenario.push,
            config=scenario.config + SUPERVISOR.format(stall=scenario.stall_timeout),
            ingest=f'bind = "{cable.here if cable else "127.0.0.1"}:0"\n{scenario.ingest}',
            program=bench.program,
        )
    )
    publisher = (
        ResumablePublisher(running.ingest, picture, cable, scenario.buffer)
        if scenario.resumable
        else Publisher(running.ingest, picture, cable, scenario.returns)
    )
    live = Live(running, publisher, server, outcome.violations, cable, small, before_it)
    stack.callback(live.close)
    return live


async def _live(
    scenario: Scenario, seed: int, bench: Bench, live: Live, outcome: Outcome, struck: Callable[[], None]
) -> dict[str, Any]:
    """The live part, faults and all; the stream's last status."""
    rng = scenario.rng(seed)
    moments = scenario.moments(rng, bench.seconds)
    async with trio.open_nursery() as nursery:
        if live.gate is not None:
            nursery.start_soon(live.gate.run)
        nursery.start_soon(live.publisher.run)
        await live.publisher.started.wait()
        begin = trio.current_time()
        if live.publisher.returns:
            await live.wait_until(lambda status: status["chunks"])
            live.look()
        for moment in moments:
            await trio.sleep_until(begin + moment)
            if live.publisher.gone.is_set():
                break
            fault = rng.choice(scenario.faults)
            outcome.strikes.append(Strike(fault.name, await fault.inject(live, rng)))
            struck()
        status = await live.daemon.wait_ended(bench.seconds + 2 * PATIENCE)
        with trio.move_on_after(5):
            await live.publisher.gone.wait()  # it may be hearing of the end
        nursery.cancel_scope.cancel()
    return status


async def _measure(
    live: Live, before: Counter[str], resident: Resident, bench: Bench, outcome: Outcome
) -> None:
    """What the daemon holds a while after the session's end; a status request may be under way."""
    pid = live.daemon.process.pid
    outcome.peak_memory = max(peak_memory(pid), *resident.samples)
    outcome.resident = resident.halves()
    if outcome.resident and not live.lives:
        outcome.violations += check_memory(outcome.resident, bench.seconds)
    with trio.move_on_after(5):
        while open_files(pid).total() > before.total():  # noqa: ASYNC110  another process's descriptors
            await trio.sleep(0.1)
    after = open_files(pid)
    outcome.descriptors = (before.total(), after.total())
    outcome.violations += check_descriptors(before, after)


@contextmanager
def _saved(state: Path, outcome: Outcome, mounted: bool) -> Iterator[None]:
    """Of a failed run on a file system that goes away, keep a copy."""
    yield
    if mounted and not outcome.good:
        shutil.copytree(state, state.with_name("var-kept"), ignore=shutil.ignore_patterns("ballast"))
