"""Chromium speaks ``ingestd.v1``, and its page is reloaded, or loses its network, while it is live.

What the page's ledger says was acknowledged is in the raw recording, byte for byte, and nothing is twice.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.test_changes import all_sinks, outputs, recorded
from tests.support.counting import assert_same_frames, continuous, decode_errors, read_sound, read_video
from tests.support.daemon import Daemon, daemon
from tests.support.proxy import Proxy, proxy
from tests.support.resuming import Load, ResumingPublisher, open_resuming_publisher
from tests.support.rtmps_server import RtmpServer

FPS = 30
LONG = (pytest.mark.full, pytest.mark.timeout(400))


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("reloads", [3, pytest.param(20, marks=LONG)])
async def test_a_reload_loses_nothing_that_was_acknowledged(
    tmp_path: Path, rtmp_server: RtmpServer, reloads: int
) -> None:
    """One session, one RTMPS connection, one HLS; each acknowledged chunk recorded, none twice.

    Two of three reloads come when the network has been dead for a moment, and the page has sent what never
    arrives: the numbers of these chunks are given again. Then either the old connection is reset, or it looks
    alive still, and the new one takes over.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with daemon(tmp_path / "live", all_sinks(rtmp_server)) as running:
        async with proxy(port_of(running)) as network, open_resuming_publisher() as page:
            await page.start(f"ws://127.0.0.1:{network.port}/stream/live", "cam-key", timeslice_ms=20)
            for number in range(reloads):
                await trio.sleep(moments.uniform(0, 3.5))
                await reload(page, network, number, moments.uniform(0, 0.5))
            await trio.sleep(2)
            loads = await page.stop()
        status = await running.wait_ended()
    assert len(loads) == reloads + 1
    assert_one_session(running, status, loads, rtmp_server)
    assert status["cuts"] == reloads
    assert status["takeovers"] >= (reloads + 1) // 3
    raw = [path.read_bytes() for path in recorded(running, status)]
    counts = assert_recorded(loads, raw)
    # One before each recorder but the first: a load that came to send nothing has none of its own.
    assert status["gap_count"] == len(status["gaps"]) == len(raw) - 1
    assert_plays_through(running, rtmp_server)
    acknowledged = sum(load.acknowledged - load.begun for load in loads)
    sent = sum(len(load.sent) for load in loads)
    seconds = [gap["seconds"] for gap in status["gaps"]]
    print(
        f"{reloads} reloads: {sent} chunks sent, {acknowledged} acknowledged, {sum(counts)} recorded;"
        f" {len(raw)} recorders, {len(seconds)} gaps of up to {max(seconds):.1f} s,"
        f" {status['takeovers']} takeovers"
    )


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize(
    "silently", [pytest.param(False, marks=pytest.mark.full), True], ids=["reset", "silent"]
)
async def test_a_cut_of_the_network_loses_nothing(
    tmp_path: Path, rtmp_server: RtmpServer, silently: bool
) -> None:
    """Two seconds without network: the same recorder goes on, its every byte is recorded, there is no gap."""
    with daemon(tmp_path / "live", all_sinks(rtmp_server)) as running:
        async with proxy(port_of(running)) as network, open_resuming_publisher() as page:
            await page.start(f"ws://127.0.0.1:{network.port}/stream/live", "cam-key", timeslice_ms=100)
            await trio.sleep(2.5)
            network.refusing = True
            network.freeze()
            if not silently:
                network.cut()
            await trio.sleep(2)
            network.cut()
            network.thaw()
            network.refusing = False
            await page.wait("publisher.ready && publisher.connections > 1")
            await trio.sleep(2)
            (load,) = await page.stop()
        status = await running.wait_ended()
    assert_one_session(running, status, [load], rtmp_server)
    assert [hello["recorder"] for hello in load.hellos] == [None, 0]
    assert (status["cuts"], status["gap_count"]) == (1, 0)
    (data,) = [path.read_bytes() for path in recorded(running, status)]
    assert assert_recorded([load], [data]) == [len(load.sent)]
    assert_plays_through(running, rtmp_server)
    again = len(load.sent) - load.hellos[1]["next"]
    print(f"{len(load.sent)} chunks, all recorded, the last {again} of them on the second connection")


def port_of(running: Daemon) -> int:
    return int(running.ingest.rpartition(":")[2])


async def reload(page: ResumingPublisher, network: Proxy, number: int, dead: float) -> None:
    """Reload for the *number*th time: by turns after *dead* seconds without network, or just so."""

    def light() -> None:
        network.cut()
        network.thaw()

    match number % 3:
        case 0:
            network.freeze()
            await trio.sleep(dead)
            await page.reload(light)
        case 1:
            network.strand()
            await trio.sleep(dead)
            await page.reload()
        case _:
            await page.reload()


def assert_one_session(
    running: Daemon, status: dict[str, Any], loads: list[Load], server: RtmpServer
) -> None:
    """Fail unless all went into one session, and no child of it was ever begun anew."""
    assert (status["state"], status["cause"]) == ("ended", None)
    hellos = [hello for load in loads for hello in load.hellos]
    assert {hello["session"] for hello in hellos} == {status["session"]}
    assert [hello["resumed"] for hello in hellos[1:]] == [hello["next"] > 0 for hello in hellos[1:]]
    for child in (status["encoder"], *status["sinks"]):
        assert (child["state"], child["attempts"], child["restarts"]) == ("stopped", 1, 0), child
        assert child["last_error"] is None, child
    complaints = {event["event"] for event in running.events() if event["level"] in ("warning", "error")}
    # A machine that is too busy to draw gives a source that is worth a warning.
    assert complaints <= {"source_gap", "source_warning", "publisher_taken_over"}
    server.wait_idle()
    assert server.connections() == 1


def assert_recorded(loads: list[Load], raw: list[bytes]) -> list[int]:
    """Fail unless *raw*, a file a recorder, has what was acknowledged, each chunk once, in order.

    Returns how many chunks of each load are recorded.
    """
    # What the next load was told to begin with says how far each one came.
    ends = [load.begun for load in loads[1:]] + [loads[-1].begun + len(loads[-1].sent)]
    counts = [end - load.begun for load, end in zip(loads, ends, strict=True)]
    files = iter(raw)
    for load, count in zip(loads, counts, strict=True):
        assert load.acknowledged - load.begun <= count <= len(load.sent)
        any_bytes = any(chunk.size for chunk in load.sent[:count])
        load.assert_recorded(next(files) if any_bytes else b"", count)
        assert len({chunk.recorder for chunk in load.sent}) <= 1
    assert list(files) == []
    assert loads[-1].acknowledged == ends[-1]
    return counts


def assert_plays_through(running: Daemon, server: RtmpServer) -> None:
    """Fail unless every output decodes, shows the same, a picture in each slot and sound throughout."""
    paths = outputs(running, server)
    frames = read_video(paths[0])
    assert continuous(frames)
    assert [pts for pts, _ in frames] == pytest.approx([n / FPS for n in range(len(frames))], abs=0.002)
    for path in paths:
        assert decode_errors(path) == [], path
        assert_same_frames(read_video(path), frames)
        ((begin, end),) = read_sound(path)
        assert (begin, end) == pytest.approx((0.0, frames[-1][0]), abs=0.15), path
    playlist = running.playlist.read_text()
    assert "DISCONTINUITY" not in playlist
    assert playlist.endswith("#EXT-X-ENDLIST\n")
