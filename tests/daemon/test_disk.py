"""A disk that is full: what the publisher is told, what is kept, and what goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.daemon.tools import (
    COPY,
    ENCODE,
    HLS,
    MKV,
    RAW,
    all_running,
    browser_chunks,
    card,
    closed_with,
    live,
    small_disk,
)
from tests.support.counting import continuous, decode_errors, read_video
from tests.support.daemon import daemon

pytestmark = pytest.mark.usefixtures("no_processes_left")

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    with small_disk(tmp_path / "disk", "6m") as mounted:
        yield mounted


def fill(disk: Path, leave: int) -> Path:
    """Take up all but *leave* bytes of *disk*."""
    stat = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # somebody else may be faster
        for _ in range((stat.f_bavail * stat.f_frsize - leave) // stat.f_frsize):
            file.write(bytes(stat.f_frsize))
    return ballast


async def test_end_closes_the_publisher_and_keeps_what_was_before(
    tmp_path: Path, disk: Path, ffmpeg: str
) -> None:
    """Policy `end`: 4500 with the cause; raw and MKV hold everything that was accepted."""
    chunks = await card(ffmpeg, 12)
    config = f'[storage]\nstate_dir = "{disk}"\n'
    with daemon(tmp_path, COPY + RAW + MKV, config=config) as running:
        async with live(running, chunks) as publisher:
            await running.wait_until(lambda s: all_running(s) and s["chunks"] >= 8)
            fill(disk, MIB + 300_000)  # min_free is 1 MiB
            code, reason = await closed_with(publisher)
        status = await running.wait_ended()
        (disk / "ballast").unlink()
    assert (code, reason) == (
        4500,
        "the journal cannot be written: less than 1048576 bytes free (journal.min_free)",
    )
    assert (status["state"], status["cause"]) == ("failed", reason)
    accepted = status["chunks"]
    assert 8 <= accepted < len(chunks)
    mkv, raw = sorted((disk / "recordings" / "cam").iterdir(), key=lambda path: path.suffix)
    assert raw.read_bytes() == b"".join(chunks[:accepted])
    frames = read_video(mkv)
    assert decode_errors(mkv) == []
    assert continuous(frames)
    assert frames[-1][0] > accepted * 0.25 - 0.6


async def test_continue_goes_on_without_a_journal(tmp_path: Path, disk: Path, ffmpeg: str) -> None:
    """Policy `continue`: the publisher stays, `journal_error` tells, and the recording goes on."""
    chunks = await card(ffmpeg, 6)
    config = f'on_full = "continue"\n[storage]\nstate_dir = "{disk}"\n'
    with daemon(tmp_path, COPY + MKV, config=config) as running:
        async with live(running, chunks):
            await running.wait_until(lambda s: all_running(s) and s["chunks"] >= 6)
            ballast = fill(disk, MIB - 100_000)  # below journal.min_free, with room for the recording
            status = await running.wait_until(lambda s: s["source"]["journal_error"] is not None)
            assert "less than 1048576 bytes free" in status["source"]["journal_error"]
            await running.wait_until(lambda s: s["chunks"] == len(chunks))
        status = await running.wait_ended()
        ballast.unlink()
    assert (status["state"], status["cause"]) == ("ended", None)
    (event,) = running.events("journal_full")
    assert (event["policy"], event["spool"]) == ("continue", "source")
    (mkv,) = (disk / "recordings" / "cam").iterdir()
    assert decode_errors(mkv) == []
    assert read_video(mkv)[-1][0] > 5.5


@pytest.mark.full
async def test_hls_on_a_full_disk_is_found_out_and_comes_back(
    tmp_path: Path, disk: Path, ffmpeg: str
) -> None:
    """No byte left: the recording and the HLS writer fail, and go on when there is room again."""
    chunks = await card(ffmpeg, 60)
    config = (
        f'on_full = "continue"\n[storage]\nstate_dir = "{disk}"\n[supervisor]\nstall_timeout = "500ms"\n'
        f"backoff = {['1s'] * 60}\n"
    )
    pipeline = ENCODE + MKV + HLS + 'segment = "500ms"\n'
    pipeline = pipeline.replace("[video]", '[video]\nkeyframe_interval = "500ms"')
    with daemon(tmp_path, pipeline, config=config) as running:
        async with live(running, chunks):
            await running.wait_until(lambda s: all_running(s) and s["sinks"][1]["last_segment"])
            ballast = fill(disk, 0)
            status = await running.wait_until(lambda s: all(sink["last_error"] for sink in s["sinks"]))
            mkv, hls = status["sinks"]
            assert "No space left on device" in mkv["last_error"]
            assert "the disk cut short" in hls["last_error"]
            assert status["state"] == "live"
            ballast.unlink()
            await running.wait_until(lambda s: all_running(s) and s["sinks"][1]["last_segment"])
        status = await running.wait_ended()
    assert status["state"] == "ended"
    (recording,) = (disk / "recordings" / "cam").iterdir()
    frames = read_video(recording)
    assert decode_errors(recording) == []
    assert continuous(frames)
    assert max(b[0] - a[0] for a, b in pairwise(frames)) < 0.05  # not a frame is missing


async def test_a_disk_that_is_full_at_the_start_is_told(tmp_path: Path, disk: Path) -> None:
    """No room for even the journal's first byte: 4500 with the cause, and the daemon stays up."""
    config = f'[storage]\nstate_dir = "{disk}"\n'
    with daemon(tmp_path, COPY + MKV, config=config) as running:
        fill(disk, 0)
        for _ in range(2):
            async with live(running, browser_chunks()[:4]) as publisher:
                code, reason = await closed_with(publisher)
            assert code == 4500
            assert "No space left on device" in reason or "bytes free" in reason
            assert (await running.wait_ended())["state"] == "failed"
        (disk / "ballast").unlink()
        async with live(running, browser_chunks()[:8]):
            await running.wait_until(all_running)
        assert (await running.wait_ended())["state"] == "ended"
    assert not running.events("session_crashed")
