"""One child process: how it ends, and that nothing is left of it.

Small scripts stand for FFmpeg where only the process counts.
"""

# ruff: noqa: ASYNC110, ASYNC240  other processes are waited for, and /proc is no disk

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, UnsupportedMedia
from ingestd.live.child import Child, Feed, Input, Watch, run_child
from ingestd.media.ffmpeg_output import Progress
from ingestd.media.frames import NS_PER_S
from tests.support.captures import capture

pytestmark = pytest.mark.usefixtures("no_processes_left")

CONFIG = SupervisorConfig(stall_timeout=0.5, stop_timeout=0.5)


def shell(script: str) -> Child:
    """A child that runs *script*; ``$1`` is the number of its progress pipe."""
    return Child("cam", "sink", lambda fd: ["/bin/sh", "-c", script, "sh", str(fd)], CONFIG)


def python(script: str) -> Child:
    """A child that runs a Python *script*; ``sys.argv[1]`` is the number of its progress pipe."""
    return Child("cam", "sink", lambda fd: [sys.executable, "-S", "-c", script, str(fd)], CONFIG)


async def nothing(stdin: Input) -> None:
    """Media that is at its end at once."""


async def silence(stdin: Input) -> None:
    """Media that never comes."""
    await trio.sleep_forever()


async def steadily(stdin: Input) -> None:
    """A second of media every 20 ms, for ever."""
    second = 0
    while True:
        await stdin.write(b"x" * 100, second * NS_PER_S)
        second += 1
        await trio.sleep(0.02)


async def failure(child: Child, feed: Feed) -> str:
    """Run *child*, which must fail; returns the cause."""
    with trio.fail_after(30):
        with pytest.raises(AttemptFailed) as caught:
            await run_child(child, feed)
    return str(caught.value)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_regular_end() -> None:
    """It takes all its input, ends with status 0 after it, and what it wrote last is read."""
    out: list[bytes] = []

    async def output(data: bytes) -> None:
        await trio.sleep(0.05)
        out.append(data)

    async def feed(stdin: Input) -> None:
        for _ in range(20):
            await stdin.write(b"x" * 50_000, 0)
        assert stdin.bytes == 10**6

    await run_child(evolve(shell("exec cat"), on_output=output), feed)
    assert b"".join(out) == b"x" * 10**6


async def test_an_early_exit_has_its_cause_from_stderr() -> None:
    """A child that fails by itself failed for the reason that it gave last."""
    child = shell("echo '[error] open x' >&2; echo '[error] Connection refused' >&2; exit 3")
    assert await failure(child, silence) == "connection refused: nothing listens there (Connection refused)"


async def test_a_last_line_without_its_end_is_a_cause() -> None:
    """What a dying process said counts even without a line feed."""
    assert await failure(shell("printf '[fatal] out of beans' >&2; exit 1"), silence) == "out of beans"


async def test_an_early_exit_without_a_word() -> None:
    """A silent failure is named by its status."""
    assert await failure(shell("exit 7"), silence) == "exited with status 7"


async def test_status_0_before_the_end_is_a_failure() -> None:
    """A child that ends well before its input has not done its work."""
    assert await failure(shell("exit 0"), silence) == "ended before its input"
    assert await failure(shell("exit 0"), steadily) == "ended before its input"


async def test_status_1_after_the_end_is_a_failure() -> None:
    """A child that could not finish its output fails, although it took all of its input."""
    script = "cat >/dev/null; echo '[error] No space left on device' >&2; exit 1"
    assert await failure(shell(script), nothing) == "the disk is full (No space left on device)"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (40, "signal 40")])
async def test_killed_by_a_signal(number: int, name: str) -> None:
    """A signal is named, whatever the child said before."""
    child = shell(f"ulimit -c 0; echo '[error] earlier trouble' >&2; kill -{number} $$; sleep 9")
    assert await failure(child, silence) == f"killed by {name}"


async def test_cannot_be_started(tmp_path: Path) -> None:
    """A binary that is not there, or may not be run, is a failed attempt with the reason."""
    missing = Child("cam", "sink", lambda fd: [str(tmp_path / "ffmpeg")], CONFIG)
    assert await failure(missing, silence) == f"cannot start {tmp_path}/ffmpeg: No such file or directory"
    (tmp_path / "ffmpeg").touch()
    assert await failure(missing, silence) == f"cannot start {tmp_path}/ffmpeg: Permission denied"


async def test_a_stopped_child_is_found_out_killed_and_reaped() -> None:
    """SIGSTOP: fed more than stall_timeout of media with no output, it is killed; nothing is left."""
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    begun = trio.current_time()
    cause = await failure(evolve(shell("exec cat >/dev/null"), on_start=stop), steadily)
    assert cause.startswith("stalled: no output for 0.5 s, fed ")
    assert trio.current_time() - begun >= 0.5
    assert not alive(pids[0])


async def test_a_child_that_takes_no_input_is_found_out() -> None:
    """A full pipe for longer than stall_timeout is a stall even if the media's clock stands still."""

    async def flood(stdin: Input) -> None:
        while True:
            await stdin.write(b"x" * 10_000, 0)

    assert await failure(shell("exec sleep 60"), flood) == "stalled: took no input for 0.5 s"


async def test_a_child_that_closes_its_input_and_stays() -> None:
    """A child that takes nothing any more and does not end is a stall, too."""
    assert (await failure(shell("exec 0<&-; exec sleep 60"), steadily)).startswith("stalled: ")


async def test_silence_is_no_stall() -> None:
    """While nothing is fed nothing is expected: a frozen canvas sends nothing."""

    async def feed(stdin: Input) -> None:
        await stdin.write(b"a", 0)
        await trio.sleep(1.2)
        await stdin.write(b"b", NS_PER_S // 4)

    await run_child(shell("exec cat >/dev/null"), feed)


async def test_progress_is_an_advance() -> None:
    """A child whose output time goes on is not stalled, however much it is fed; it is reported."""
    count = "i=0; while [ $i -lt 25 ]; do i=$((i+1)); "
    report = "printf 'out_time_us=%d00000\\nprogress=continue\\n' $i >/dev/fd/$1"
    reports: list[Progress] = []
    advances: list[bool] = []

    async def feed(stdin: Input) -> None:
        for second in range(60):
            await stdin.write(b"x", second * NS_PER_S)
            await trio.sleep(0.02)

    child = evolve(
        shell(f"{count}{report}; sleep 0.05; done; exec cat >/dev/null"),
        on_progress=reports.append,
        on_advance=lambda: advances.append(True),
        config=SupervisorConfig(stall_timeout=1.0, stop_timeout=5.0),
    )
    await run_child(child, feed)
    assert [report.out_time for report in reports] == [pytest.approx(i / 10) for i in range(1, 26)]
    assert len(advances) == 25


async def test_progress_that_stands_still_is_a_stall() -> None:
    """Reports without an advance do not keep a child alive."""
    script = "while :; do printf 'out_time_us=1000\\nprogress=continue\\n' >/dev/fd/$1; sleep 0.05; done"
    assert (await failure(shell(script), steadily)).startswith("stalled: no output for 0.5 s")


async def test_our_own_slow_disk_is_not_the_childs_stall() -> None:
    """While we do not take its output, a child that waits for us is not blamed."""
    taken: list[bytes] = []

    async def output(data: bytes) -> None:
        if not taken:
            await trio.sleep(1.5)
        taken.append(data)

    async def feed(stdin: Input) -> None:
        for second in range(40):
            await stdin.write(b"x" * 10_000, second * NS_PER_S)

    await run_child(evolve(shell("exec cat"), on_output=output), feed)
    assert sum(map(len, taken)) == 400_000


async def test_a_cause_from_outside() -> None:
    """The check's cause ends the attempt."""
    checks: list[int] = []

    def check() -> str | None:
        checks.append(1)
        return "stalled: the playlist has not changed for 9 s" if len(checks) > 2 else None

    cause = await failure(evolve(shell("exec cat >/dev/null"), check=check), silence)
    assert cause == "stalled: the playlist has not changed for 9 s"


async def test_ignoring_the_end_of_input_is_answered_with_sigterm(tmp_path: Path) -> None:
    """A child that goes on after its input's end gets SIGTERM after stop_timeout, and may finish."""
    note = tmp_path / "note"
    child = shell(f"trap 'echo finished >{note}; exit 0' TERM; while :; do sleep 0.05; done")
    begun = trio.current_time()
    # The shell tells on stderr that its `sleep` was terminated.
    assert (await failure(child, nothing)).startswith("did not end within 0.5 s of its input's end")
    assert trio.current_time() - begun >= 0.5
    assert note.read_text() == "finished\n"


async def test_ignoring_sigterm_is_answered_with_sigkill() -> None:
    """One that ignores SIGTERM as well is killed a second later."""
    begun = trio.current_time()
    child = shell("trap '' TERM; while :; do sleep 0.05; done")
    assert await failure(child, nothing) == "did not end within 0.5 s of its input's end"
    assert trio.current_time() - begun >= 1.5


@pytest.mark.parametrize("script", ["exec cat >/dev/null", "trap '' TERM; while :; do sleep 0.05; done"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("feed", [silence, steadily], ids=["silence", "fed"])
async def test_cancellation_leaves_no_process(script: str, stopped: bool, feed: Feed) -> None:
    """Cancelled, also over a child that is stopped or ignores SIGTERM: it is gone and reaped on return."""
    pids: list[int] = []

    def started(pid: int) -> None:
        pids.append(pid)

    with trio.move_on_after(0.3) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_child, evolve(shell(script), on_start=started), feed)
            while not pids:
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            if stopped:
                os.kill(pids[0], signal.SIGSTOP)
    assert scope.cancelled_caught
    assert not alive(pids[0])


async def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    """A script around FFmpeg: neither its failure nor a cancellation leaves the FFmpeg, or waits for it."""
    note = tmp_path / "pid"
    child = shell(f"sleep 60 & echo $! >{note}; echo '[error] timed out' >&2; exit 1")
    assert await failure(child, silence) == "the target does not answer in time (timed out)"
    assert await gone(int(note.read_text()))
    note.unlink()
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_child, shell(f"sleep 60 & echo $! >{note}; wait"), silence)
            while not (note.exists() and note.read_text()):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert await gone(int(note.read_text()))


async def gone(pid: int) -> bool:
    """Whether *pid*, which is not our child, ends soon (its reaping is the init process's business)."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        await trio.sleep(0.01)
    return False


async def test_secrets_are_not_in_the_cause() -> None:
    """A stream key is masked, wherever in the line it stands, and however the line is cut."""
    key = "s3cr3t-key-0123456789"
    for script, said in (
        (
            f"echo '[error] rtmps://x/app/{key}: Connection refused'",
            "(rtmps://x/app/***: Connection refused)",
        ),
        (f"printf '[error] %0490d {key} tail\\n' 0", "0 *…"),
        (
            "printf '[error] rtmps://x/app/s3cr3t-' >&2; sleep 0.2; echo 'key-0123456789: failed'",
            "/***: failed",
        ),
        (f"printf '[error] %s' {key}", "***"),
    ):
        cause = await failure(evolve(shell(f"{{ {script}; }} >&2; exit 1"), secrets=(key,)), silence)
        assert "s3cr" not in cause
        assert cause.endswith(said)


async def test_a_flood_on_stderr_is_bounded() -> None:
    """Megabytes on stderr, with lines or without any, neither block the child nor fill our memory."""
    for unit in ("x" * 99 + "\\n", "x" * 100):
        script = f"import os, sys\nfor _ in range(300): os.write(2, b'{unit}' * 100)\nsys.exit(5)"
        cause = await failure(python(script), silence)
        assert set(cause) == {"x"}
        assert len(cause) <= 501


async def test_an_output_that_cannot_be_taken_fails_the_attempt() -> None:
    """When what it writes is unusable the child is killed, and the reason is the cause."""

    async def output(data: bytes) -> None:
        raise AttemptFailed("the encoder's output cannot be parsed: byte 0: …")

    child = evolve(shell("while :; do echo x; done"), on_output=output)
    assert await failure(child, silence) == "the encoder's output cannot be parsed: byte 0: …"


async def test_a_feed_that_cannot_go_on_says_so_itself() -> None:
    """An error of the feed that has a name comes out as it is, not in a group."""

    async def feed(stdin: Input) -> None:
        raise UnsupportedMedia("no muxer takes this codec")

    with pytest.raises(UnsupportedMedia, match="no muxer takes this codec"):
        await run_child(shell("exec cat >/dev/null"), feed)


async def test_a_command_that_cannot_be_made_starts_nothing() -> None:
    """When the command line itself raises, that comes out, and no pipe is left open."""

    def args(fd: int) -> list[str]:
        raise UnsupportedMedia("no such codec")

    before = descriptors()
    with pytest.raises(UnsupportedMedia):
        await run_child(Child("cam", "sink", args, CONFIG), silence)
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_child(shell("exec cat"), silence)
    assert descriptors() == before


async def test_no_file_descriptor_is_left() -> None:
    """Twenty children, well ended, failed, and cancelled: as many descriptors as before."""

    async def one(index: int) -> None:
        match index % 4:
            case 0:
                await run_child(shell("exec cat >/dev/null"), nothing)
            case 1:
                await failure(shell("exit 1"), silence)
            case 2:
                await failure(Child("cam", "sink", lambda fd: ["/nonexistent"], CONFIG), silence)
            case _:
                with trio.move_on_after(0.05):
                    await run_child(shell("exec cat >/dev/null"), steadily)

    await one(0)
    before = descriptors()
    for index in range(20):
        await one(index)
    assert descriptors() == before


async def test_the_environment_is_small() -> None:
    """A child gets no variable of the daemon's but PATH, and no descriptor but its own."""
    out: list[bytes] = []

    async def output(data: bytes) -> None:
        out.append(data)

    script = (
        "import os; print(sorted(os.environ), len(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())"
    )
    await run_child(evolve(python(script), on_output=output), nothing)
    # stdin, stdout, stderr, the progress pipe, and the directory that is being listed
    assert b"".join(out).decode().strip() in (
        "['LC_ALL', 'PATH'] 5 True",
        "['LC_ALL', 'LC_CTYPE', 'PATH'] 5 True",
    )


async def test_a_real_ffmpeg(each_ffmpeg: str, tmp_path: Path) -> None:
    """FFmpeg itself: ends well at its input's end, advances, and fails with a cause on rubbish."""
    target = tmp_path / "out.mkv"
    advances: list[bool] = []

    def args(fd: int) -> list[str]:
        return [
            each_ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "level+warning", "-progress", f"pipe:{fd}",
            "-f", "matroska", "-i", "pipe:0", "-c", "copy", "-y", str(target),
        ]  # fmt: skip

    data = capture("cv-vp8-250.webm").data()

    async def media(stdin: Input) -> None:
        await stdin.write(data, NS_PER_S)

    async def rubbish(stdin: Input) -> None:
        await stdin.write(b"rubbish" * 1000, NS_PER_S)

    config = SupervisorConfig(stall_timeout=20, stop_timeout=20)
    child = Child("cam", "sink", args, config, on_advance=lambda: advances.append(True))
    await run_child(child, media)
    assert target.stat().st_size > 0.9 * len(data)
    assert advances
    assert (await failure(child, rubbish)).startswith("FFmpeg cannot read its input")


async def test_the_watch_measures_media_and_time(mock_clock: MockClock) -> None:
    """A stall is both: more than stall_timeout of media fed, and as much time without an advance."""
    watch = Watch(5.0)
    watch.fed(100 * NS_PER_S)
    watch.fed(110 * NS_PER_S)
    assert watch.stalled() is None  # a backlog, fed in no time
    mock_clock.jump(5.1)
    assert watch.stalled() == "stalled: no output for 5 s, fed 10.0 s of media meanwhile"
    watch.advanced()
    mock_clock.jump(60)
    assert watch.stalled() is None  # fed nothing since
    watch.fed(115 * NS_PER_S)
    assert watch.stalled() is None
    watch.fed(115 * NS_PER_S + 1)
    assert watch.stalled() == "stalled: no output for 5 s, fed 5.0 s of media meanwhile"
    watch.held(True)
    assert watch.stalled() is None
    watch.held(False)
    assert watch.stalled() is None
    watch.blocked(trio.current_time())
    mock_clock.jump(5.1)
    assert watch.stalled() == "stalled: took no input for 5 s"
    watch.blocked(None)
    assert watch.stalled() is None


async def test_what_was_taken_at_once_before_a_silence_is_no_stall(mock_clock: MockClock) -> None:
    """A publisher that comes back sends a backlog and may be lost again: no input, no output."""
    taken = True
    watch = Watch(2.0, taken=lambda: taken)
    watch.fed(0)
    watch.advanced()  # FFmpeg told of the first frame, and of no other
    watch.fed(3 * NS_PER_S)
    mock_clock.jump(2.1)
    assert watch.stalled() is None
    watch.fed(6 * NS_PER_S)  # another backlog: there was no time yet for anything to come of it
    assert watch.stalled() is None
    taken = False
    mock_clock.jump(2.1)
    assert watch.stalled() == "stalled: no output for 2 s, fed 3.0 s of media meanwhile"


async def test_one_that_takes_all_and_makes_nothing_of_it_stalls(mock_clock: MockClock) -> None:
    """As long as media comes."""
    watch = Watch(2.0, taken=lambda: True)
    for second in range(3):
        watch.fed(second * NS_PER_S)
        mock_clock.jump(0.9)
        assert watch.stalled() is None
    watch.fed(3 * NS_PER_S)
    assert watch.stalled() == "stalled: no output for 2 s, fed 3.0 s of media meanwhile"
