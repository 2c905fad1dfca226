"""What an earlier life has left: only what bears the mark of this lock is ended, and nothing of ours.

Real processes, nobody's children: `sleep` stands for FFmpeg.
"""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240  nothing else runs beside these

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from structlog.testing import capture_logs

from ingestd.config import FfmpegConfig
from ingestd.live import orphans
from ingestd.live.capabilities import find_ffmpeg
from ingestd.live.orphans import MARK, end_orphans, environment, marking
from ingestd.live.recording import publish
from ingestd.state_lock import state_lock
from tests.support.processes import alive

Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that is nobody's child, by default a `sleep`, with the environment given."""
    started: list[int] = []

    def begin(script: str = "exec sleep 60", **env: str) -> int:
        done = subprocess.run(
            ["/bin/sh", "-c", f"setsid /bin/sh -c '{script}' >/dev/null 2>&1 & echo $!"],
            env={"PATH": os.environ["PATH"], **env}, capture_output=True, check=True,
        )  # fmt: skip
        started.append(int(done.stdout))
        return started[-1]

    yield begin
    for pid in started:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


async def ended(identity: str, within: float = 5.0) -> list[Any]:
    """What `end_orphans` logs when it looks for *identity*."""
    with capture_logs() as logs, marking(identity):
        await end_orphans(within)
    return logs


def running(pid: int) -> None:
    """Wait until it is the `sleep`, and no longer a shell that has yet to become one."""
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        pass


async def test_what_bears_the_mark_is_gone(start: Start) -> None:
    """Running and stopped ones are ended and logged; those of others, and those without a mark, go on."""
    mine = [start(**{MARK: "7:1"}), start(**{MARK: "7:1"})]
    others = [start(), start(**{MARK: "7:11"}), start(**{MARK: "17:1"}), start(**{f"X{MARK}": "7:1"})]
    for pid in mine + others:
        running(pid)
    os.kill(mine[0], signal.SIGSTOP)
    logs = await ended("7:1")
    assert not any(alive(pid) for pid in mine)
    assert all(alive(pid) for pid in others)
    assert sorted(logs, key=lambda line: line["pid"]) == [
        {"event": "orphan_ended", "log_level": "warning", "pid": pid, "program": "sleep"}
        for pid in sorted(mine)
    ]


async def test_what_it_has_started_goes_with_it(start: Start) -> None:
    """An FFmpeg may be a script around one, which may even start it again."""
    script = start("while :; do sleep 61; done", **{MARK: "7:2"})
    with trio.fail_after(5):
        while len(orphans._find("7:2", set())) < 2:  # noqa: ASYNC110  another process's child
            await trio.sleep(0.02)
    logs = await ended("7:2")
    assert not alive(script)
    assert {line["program"] for line in logs} <= {"sh", "sleep"}
    assert orphans._find("7:2", set()) == []


async def test_descendants_of_this_process_are_left_alone() -> None:
    """The daemon's own children bear the same mark."""
    with marking("7:3"):
        child = subprocess.Popen(["sleep", "60"], env=environment())
    try:
        running(child.pid)
        assert await ended("7:3") == []
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


async def test_without_a_lock_nothing_is_ended(start: Start) -> None:
    pid = start(**{MARK: ""})
    running(pid)
    await end_orphans()
    assert alive(pid)


async def test_an_old_kernel_has_no_pidfd(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the mark is read once more before the signal."""

    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", missing)
    pid = start(**{MARK: "7:4"})
    running(pid)
    assert [line["event"] for line in await ended("7:4")] == ["orphan_ended"]
    assert not alive(pid)


async def test_what_may_not_be_signalled_is_logged(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start goes on, at once, and the others are ended all the same."""
    pids = [start(**{MARK: "7:5"}), start(**{MARK: "7:5"})]
    send = signal.pidfd_send_signal

    def forbid(fd: int, number: int) -> None:
        if f"Pid:\t{pids[0]}\n" in Path(f"/proc/self/fdinfo/{fd}").read_text():
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        send(fd, number)

    monkeypatch.setattr(signal, "pidfd_send_signal", forbid)
    for pid in pids:
        running(pid)
    with trio.fail_after(2):
        logs = await ended("7:5")
    assert {(line["event"], line["pid"], line.get("cause")) for line in logs} == {
        ("orphan_not_ended", pids[0], "Operation not permitted"),
        ("orphan_ended", pids[1], None),
    }
    assert [alive(pid) for pid in pids] == [True, False]


async def test_one_that_does_not_go_does_not_hold_up_the_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in a system call that cannot be interrupted outlives even SIGKILL for a while."""
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda fd, number: None)
    pid = start(**{MARK: "7:6"})
    running(pid)
    with trio.fail_after(2):
        (line,) = await ended("7:6", within=0.3)
    assert (line["event"], line["cause"]) == ("orphan_not_ended", "still there 0.3 s after SIGKILL")


async def test_a_number_that_has_changed_hands_is_not_hit(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no mark once there is a hold on it is another process than the one that was found."""
    pid = start()
    running(pid)
    results = iter([[pid], []])
    monkeypatch.setattr(orphans, "_find", lambda *_: next(results))
    assert await ended("7:7") == []
    assert alive(pid)


async def test_where_there_is_no_proc_nothing_is_done(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.setattr(orphans, "_PROC", tmp_path / "proc")
    pid = start(**{MARK: "7:8"})
    running(pid)
    assert await ended("7:8") == []
    assert alive(pid)


def test_a_lock_has_one_identity(tmp_path: Path) -> None:
    """The same by whatever path, another for another directory, even a copy of it."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "link").symlink_to("one")
    found = []
    for name in ("one", "two", "link", "one"):
        with state_lock(tmp_path / name) as identity:
            found.append(identity)
    assert found[0] == found[2] == found[3] != found[1]


async def test_probes_and_remuxes_get_the_same_few_variables(
    tmp_path: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process that the daemon starts bears the mark, and knows no secret of the daemon's."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    script = tmp_path / "ffmpeg"
    script.write_text(f'#!/bin/sh\nenv >>"$0.env"\nexec {ffmpeg} "$@"\n')
    script.chmod(0o755)
    part = tmp_path / "x.mp4.part"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1", "-f", "matroska", str(part)]
    subprocess.run(argv, check=True)
    with marking("7:9"):
        await find_ffmpeg(evolve(FfmpegConfig(), path=str(script)))
        await publish(part, tmp_path / "x.mp4", str(script))
    told = Path(f"{script}.env").read_text().splitlines()
    assert told.count(f"{MARK}=7:9") == 6  # what it is, four questions, and the remux
    assert {line.partition("=")[0] for line in told} <= {"PATH", "LC_ALL", MARK, "PWD", "_", "SHLVL"}
