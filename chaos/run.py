"""One run of one scenario: live, with faults, then every output against the control run."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field, frozen

from chaos.card import card
from chaos.checks import SinkCount, Violation, check_accepted, check_restarts, check_rtmp, check_same
from chaos.disk import disk
from chaos.live import PATIENCE, Live
from chaos.network import network
from chaos.publisher import Publisher
from chaos.scenario import Scenario
from tests.support.counting import NumberedFrame, read_video
from tests.support.daemon import Daemon, daemon, publish
from tests.support.packages import program
from tests.support.processes import LeftBehindError, nothing_left_behind
from tests.support.rtmps_server import RtmpServer

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
url = "{url}"
ca_file = "{ca}"
key = "cam"
"""

#: So that attempts do not run out when faults come every few seconds.
SUPERVISOR = '[supervisor]\nhealthy_after = "1s"\nstall_timeout = "2s"\nretry_failed_every = "1s"\n'
PROGRAM = ("-m", "ingestd")
CARDS = 3  # different publications; a run's seed says which


@frozen(slots=True)
class Bench:
    """Where runs are made: *work* holds the cards and the directories of failed runs."""

    work: Path
    seconds: float
    program: Sequence[str] = PROGRAM
    keep: bool = False


@define(slots=True)
class Outcome:
    """What came of one run. Times in seconds, memory in bytes; *kept* is its directory, if it is there."""

    scenario: str
    seed: int
    published: int = 0
    accepted: int = 0
    recorded: int = 0
    sinks: dict[str, SinkCount] = field(factory=dict)
    injected: int = 0
    recovered: list[float] = field(factory=list)
    peak_memory: int = 0
    violations: list[Violation] = field(factory=list)
    kept: Path | None = None
    took: float = 0.0

    @property
    def good(self) -> bool:
        return not self.violations


async def run(scenario: Scenario, seed: int, bench: Bench) -> Outcome:
    """One run, bounded in time. Its directory is removed if all is well, unless the bench keeps them."""
    outcome = Outcome(scenario.name, seed)
    directory = bench.work / f"{scenario.name}-{seed}"
    shutil.rmtree(directory, ignore_errors=True)
    begin = time.monotonic()
    try:
        with trio.fail_after(3 * bench.seconds + 3 * PATIENCE):
            await _run(scenario, seed, bench, directory, outcome)
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


async def _run(scenario: Scenario, seed: int, bench: Bench, directory: Path, outcome: Outcome) -> None:
    chunks = await card(program("ffmpeg"), bench.seconds, seed % CARDS, bench.work / "cards")
    outcome.published = len(chunks)
    with ExitStack() as stack:
        stack.enter_context(nothing_left_behind())
        server = stack.enter_context(RtmpServer())
        cable = stack.enter_context(network()) if scenario.network else None
        small = stack.enter_context(disk(directory / "var", scenario.disk)) if scenario.disk else None
        stack.enter_context(_saved(directory / "var", outcome, scenario.disk is not None))
        running = stack.enter_context(
            daemon(
                directory,
                PIPELINE + SINKS.format(url=server.rtmps_url, ca=server.ca_file),
                config=scenario.config + SUPERVISOR,
                ingest=f'bind = "{cable.here if cable else "127.0.0.1"}:0"\n{scenario.ingest}',
                program=bench.program,
            )
        )
        idle = descriptors(running.process.pid)
        live = Live(running, Publisher(running.ingest, chunks, cable), server, cable, small)
        status = await _live(scenario, seed, bench, live, outcome)
        outcome.accepted = status["chunks"]
        outcome.peak_memory = peak_memory(running.process.pid)
        outcome.violations += await _leaked(running.process.pid, idle)
        if await trio.to_thread.run_sync(running.stop) != 0:
            outcome.violations.append(Violation("state", f"the daemon's exit code is {running.exit_code}"))
        await trio.to_thread.run_sync(server.wait_idle)
        control = await control_frames(directory / "control", chunks[: outcome.accepted])
        await trio.to_thread.run_sync(_compare, scenario, live, status, control, outcome)


async def _live(scenario: Scenario, seed: int, bench: Bench, live: Live, outcome: Outcome) -> dict[str, Any]:
    """The live part, faults and all; the stream's last status."""
    rng = random.Random(f"{scenario.name} {seed}")
    moments = scenario.moments(rng, bench.seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.publisher.run)
        await live.publisher.started.wait()
        begin = trio.current_time()
        for moment in moments:
            await trio.sleep_until(begin + moment)
            fault = rng.choice(scenario.faults)
            recovered = await fault.inject(live, rng)
            outcome.injected += 1
            if recovered is not None:
                outcome.recovered.append(recovered)
        with trio.fail_after(bench.seconds + PATIENCE):
            status = await live.wait_ended()
        nursery.cancel_scope.cancel()
    return status


def _compare(
    scenario: Scenario, live: Live, status: dict[str, Any], control: list[NumberedFrame], outcome: Outcome
) -> None:
    running, found = live.daemon, outcome.violations
    if status["state"] != scenario.ends:
        found.append(Violation("state", f"{status['state']}, not {scenario.ends}: {status['cause']}"))
    for crash in running.events("session_crashed"):
        found.append(Violation("state", f"session_crashed: {str(crash)[-2000:]}"))
    if scenario.whole and outcome.accepted != len(live.publisher.chunks):
        found.append(
            Violation("whole", f"{outcome.accepted} of {len(live.publisher.chunks)} chunks accepted")
        )
    if scenario.disk is None:  # a full disk hits them all
        found += check_restarts(status, {fault.hurts for fault in scenario.faults})
    raw, recorded = recordings(running)
    if status["source"] and status["source"]["journal_error"] and scenario.ends == "ended":
        pass  # the journal was given up, and with it the raw recording
    else:
        found += check_accepted(raw, live.publisher.chunks, outcome.accepted)
    if len(recorded) != 1:
        found.append(Violation("recording", f"{len(recorded)} files: {[path.name for path in recorded]}"))
    for name, check, outputs in (("mkv", "recording", recorded), ("hls", "hls", [running.playlist])):
        for output in outputs[:1]:
            outcome.sinks[name], violations = check_same(check, output, control)
            found += violations
    outcome.recorded = outcome.sinks["mkv"].sent if "mkv" in outcome.sinks else 0
    outcome.sinks["rtmp"], violations = check_rtmp(
        live.server.recordings("cam"), control, cut=scenario.cuts_rtmp
    )
    found += violations


def recordings(running: Daemon) -> tuple[list[Path], list[Path]]:
    """The raw ones, and the others."""
    raw = [path for path in running.recordings if "-source-" in path.name]
    return raw, [path for path in running.recordings if path not in raw]


async def control_frames(directory: Path, chunks: list[bytes]) -> list[NumberedFrame]:
    """What a recording shows of a run of its own, without faults and without other sinks."""
    with daemon(directory, PIPELINE) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended(2 * PATIENCE)
    if status["state"] != "ended":
        raise AssertionError(f"the control run {status['state']}: {status['cause']}")
    (recording,) = running.recordings
    return await trio.to_thread.run_sync(read_video, recording)


def descriptors(pid: int) -> int:
    """How many files and sockets process *pid* has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _leaked(pid: int, before: int) -> list[Violation]:
    """What is open above *before* a while after the session's end; a status request may be under way."""
    with trio.move_on_after(5):
        while (now := descriptors(pid)) > before:  # noqa: ASYNC110  another process's descriptors
            await trio.sleep(0.1)
        return []
    return [Violation("descriptors", f"{now} open, {before} before the session")]


def peak_memory(pid: int) -> int:
    """The most memory that process *pid* ever had resident, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def _saved(state: Path, outcome: Outcome, mounted: bool) -> Any:
    """Of a failed run on a file system that goes away, keep a copy."""
    yield
    if mounted and not outcome.good:
        shutil.copytree(state, state.with_name("var-kept"), ignore=shutil.ignore_patterns("ballast"))
