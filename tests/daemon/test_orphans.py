"""A start after a SIGKILL: what the dead daemon has left is ended before anything else is done."""

# ruff: noqa: ASYNC220, ASYNC240  /proc is no disk

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from ingestd.live.orphans import MARK
from tests.daemon.tools import ENCODE, HLS, MKV, all_running, card, freeze, live
from tests.support.daemon import daemon
from tests.support.processes import alive

pytestmark = pytest.mark.usefixtures("no_processes_left")

FOREIGN = ("-v", "error", "-re", "-f", "lavfi", "-i", "anullsrc", "-f", "null", "-")


async def test_frozen_orphans_are_gone_before_the_daemon_is_ready(tmp_path: Path, ffmpeg: str) -> None:
    """A stopped encoder and HLS writer are ended; other FFmpegs, and those of another daemon, go on."""
    chunks = await card(ffmpeg, 12)
    foreign = [subprocess.Popen([ffmpeg, *FOREIGN], env=env) for env in ({}, {MARK: "1:1"})]
    try:
        with (
            daemon(tmp_path / "other", ENCODE + HLS) as other,
            daemon(tmp_path / "run", ENCODE + MKV + HLS) as dead,
        ):
            async with live(other, chunks), live(dead, chunks):
                theirs = (await other.wait_until(all_running))["encoder"]["pid"]
                status = await dead.wait_until(all_running)
                writer = next(sink["pid"] for sink in status["sinks"] if sink["name"] == "hls")
                orphans = {status["encoder"]["pid"]: "encoder", writer: "hls"}
                freeze(orphans)
                dead.process.kill()
                dead.exit_code = dead.process.wait()
                assert all(alive(pid) for pid in orphans)
                with daemon(tmp_path / "run", ENCODE + MKV + HLS) as running:
                    # It is ready, and they are gone: not just signalled.
                    assert not any(alive(pid) for pid in orphans)
                    names = [line["event"] for line in running.events()]
                    assert names.index("daemon_ready") > max(
                        at for at, name in enumerate(names) if name == "orphan_ended"
                    )
                    logged = running.events("orphan_ended")
                    assert {(line["pid"], line["program"]) for line in logged} == {
                        (pid, "ffmpeg") for pid in orphans
                    }
                    assert alive(theirs)
                    assert all(process.poll() is None for process in foreign)
                    async with live(running, chunks):
                        await running.wait_until(all_running)
                assert running.exit_code == 0
    finally:
        for process in foreign:
            process.kill()
            process.wait()


async def test_a_start_after_an_orderly_stop_finds_nobody(tmp_path: Path, ffmpeg: str) -> None:
    """Nothing is left, so nothing is ended or logged."""
    with daemon(tmp_path, ENCODE + HLS) as first:
        async with live(first, await card(ffmpeg, 4)):
            status = await first.wait_until(all_running)
            environ = Path(f"/proc/{status['encoder']['pid']}/environ").read_bytes().split(b"\0")
            os.kill(first.process.pid, signal.SIGTERM)
            first.exit_code = await trio.to_thread.run_sync(first.process.wait, 20)
    lock = (first.state_dir / "lock").stat()
    variables = {line.decode().partition("=")[0]: line.decode().partition("=")[2] for line in environ if line}
    assert set(variables) == {"PATH", "LC_ALL", MARK}
    assert variables[MARK] == f"{lock.st_dev}:{lock.st_ino}"
    with daemon(tmp_path, ENCODE + HLS) as second:
        pass
    assert second.events("orphan_ended") == second.events("orphan_not_ended") == []
