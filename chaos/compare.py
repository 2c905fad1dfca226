"""After the live part: every output against the control run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from chaos.checks import (
    Violation,
    check_accepted,
    check_drift,
    check_gaps,
    check_lives,
    check_restarts,
    check_resumed,
    check_rtmp,
    check_same,
)
from chaos.drift import drift
from chaos.live import PATIENCE, Live
from chaos.lives import accepted_of, resumed_of
from chaos.outcome import Outcome
from chaos.publisher import ResumablePublisher
from chaos.scenario import Scenario
from ingestd.media.playlist import parse_media_playlist
from tests.support.counting import NumberedFrame, read_video
from tests.support.daemon import Daemon, daemon, publish


def accepted_chunks(live: Live, status: dict[str, Any], outcome: Outcome) -> list[list[bytes]]:
    """What was accepted, recorder by recorder.

    The API counts it; where there is more than one recorder, or life of the daemon, the journal's index does.
    """
    recorders = live.publisher.recorders
    if isinstance(live.publisher, ResumablePublisher):
        return _resumed_chunks(live, live.publisher, status, outcome)
    if not live.publisher.returns and not live.lives:
        return [list(recorders[0].chunks[: status["chunks"]])]
    lives = [*live.lives, live.last_life(status["chunks"])]
    outcome.violations += check_lives(lives)
    # There should be one session only, but what another one accepted was accepted, too.
    sessions = {life.session: life for life in lives}
    journaled = [sizes for life in sessions.values() for sizes in life.accepted]
    if status["chunks"] != (count := sum(map(len, journaled))):
        detail = f"{status['chunks']} chunks counted at the end, {count} in the journal"
        outcome.violations.append(Violation("accepted", detail))
    sent = [list(recorder.chunks[: recorder.sent]) for recorder in recorders]
    try:
        return accepted_of(sent, journaled)
    except AssertionError as error:
        outcome.violations.append(Violation("accepted", str(error)))
        return sent


def _resumed_chunks(
    live: Live, publisher: ResumablePublisher, status: dict[str, Any], outcome: Outcome
) -> list[list[bytes]]:
    """The same of a resumable publisher: its chunks have numbers, and the journal's index has them, too."""
    if live.lives:
        outcome.violations += check_lives([*live.lives, live.last_life(0)])
    given = publisher.recorders[0].chunks
    outcome.violations += check_resumed(publisher.published, status, len(given))
    try:
        return resumed_of(given, live.numbered())
    except AssertionError as error:
        outcome.violations.append(Violation("accepted", str(error)))
        return [list(given)]


def compare(
    scenario: Scenario,
    live: Live,
    status: dict[str, Any],
    accepted: list[list[bytes]],
    control: list[NumberedFrame],
    outcome: Outcome,
) -> None:
    """Note in *outcome* what there is, and each check that fails. Blocks."""
    running, found = live.daemon, outcome.violations
    if status["state"] != scenario.ends:
        found.append(Violation("state", f"{status['state']}, not {scenario.ends}: {status['cause']}"))
    found += [Violation("state", f"a crash is in the log: {line[-2000:]}") for line in crashes(running)]
    last = live.publisher.recorders[-1].chunks
    gaps = len(outcome.strikes) if scenario.gaps else 0
    if isinstance(live.publisher, ResumablePublisher):
        found += check_gaps(status, gaps, live.publisher.dropped)
    if scenario.whole and len(accepted[-1]) != len(last):
        found.append(Violation("whole", f"{len(accepted[-1])} of {len(last)} chunks accepted"))
    if scenario.hit.isdisjoint({"disk", "daemon"}):  # they hit them all
        found += check_restarts(status, scenario.hit)
    raw, recorded = recordings(running)
    if status["source"] and status["source"]["journal_error"] and scenario.ends == "ended":
        pass  # the journal was given up, and with it the raw recording
    else:
        found += check_accepted(raw, accepted)
    if len(recorded) != 1:
        found.append(Violation("recording", f"{len(recorded)} files: {[path.name for path in recorded]}"))
    for name, check, outputs in (("mkv", "recording", recorded), ("hls", "hls", [running.playlist])):
        for output in outputs[:1]:
            outcome.sinks[name], violations = check_same(check, output, control, gaps)
            found += violations
    if scenario.ends == "ended" and not parse_media_playlist(running.playlist.read_text()).ended:
        found.append(Violation("hls", "the playlist has no ENDLIST"))
    outcome.recorded = outcome.sinks["mkv"].sent if "mkv" in outcome.sinks else 0
    outcome.sinks["rtmp"], violations = check_rtmp(
        live.server.recordings("cam"), control, cut=scenario.cuts_rtmp, gaps=gaps
    )
    found += violations
    if outcome.recorded and control:
        outcome.drift = drift(recorded[0], control[-1][0])
        found += check_drift(outcome.drift)


def crashes(running: Daemon) -> list[str]:
    """What the logs of all lives say of crashed sessions."""
    logs = sorted(running.directory.glob("log-*.jsonl"))
    return [line for log in logs for line in log.read_text().splitlines() if '"session_crashed"' in line]


def recordings(running: Daemon) -> tuple[list[Path], list[Path]]:
    """The raw ones, by recorder, and the others."""
    raw = {int(found[1]): path for path in running.recordings if (found := _RAW.search(path.name))}
    return [raw[number] for number in sorted(raw)], [p for p in running.recordings if p not in raw.values()]


_RAW = re.compile(r"-source-(\d+)\.")


async def control_frames(directory: Path, pipeline: str, chunks: Sequence[bytes]) -> list[NumberedFrame]:
    """What a recording shows of a run of its own, without faults and without other sinks.

    All over one connection, where each recorder after the first is a new one.
    """
    with daemon(directory, pipeline) as running:
        await publish(running.publish_url, chunks)
        # Much faster than it was; but of half an hour there is a lot.
        status = await running.wait_ended(2 * PATIENCE + len(chunks) / 10)
    if status["state"] != "ended":
        raise AssertionError(f"the control run {status['state']}: {status['cause']}")
    (recording,) = running.recordings
    return await trio.to_thread.run_sync(read_video, recording)
