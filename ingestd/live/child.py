"""One FFmpeg process, from its start to its reaping: fed, drained, watched, ended.

`run_child` is one attempt. It returns at a regular end, raises `AttemptFailed` with the cause
otherwise, and never leaves a process behind, also when it is cancelled.
"""

from __future__ import annotations

import fcntl
import math
import os
import signal
import subprocess
import termios
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import structlog
import trio
from attrs import define, field

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, IngestdError
from ingestd.live.orphans import environment
from ingestd.media.ffmpeg_output import Progress, ProgressParser, StderrParser

log = structlog.get_logger(__name__)

_READ = 64 * 2**10
_IDLE = 1.0  # seconds without input: longer than FFmpeg's progress takes
_KILL_AFTER = 1.0  # seconds between SIGTERM and SIGKILL


@define(eq=False)
class Watch:
    """Tells a stall from silence: media was fed, or could not be, and nothing came of it.

    Call `fed` with the timestamp (ns) of what was written, `blocked` around a write, `advanced`
    when output went on, and `held` while we are the ones who do not take the output. Until the
    first output *patience* seconds more are granted, for a target that has to answer first.

    FFmpeg tells its progress while it works, twice a second: of what comes at once it may tell nothing until
    more comes. So one that has *taken* all that was written, and was given nothing for a second, is not held
    to have stalled.
    """

    stall_timeout: float
    patience: float = 0.0
    taken: Callable[[], bool] = lambda: False
    _fed: int | None = None
    _fed_at_advance: int | None = None
    _blocked_since: float | None = None
    _held: bool = False
    _fed_at: float = math.inf
    _advanced_at: float = field(factory=trio.current_time)

    def fed(self, timestamp: int) -> None:
        self._fed = timestamp if self._fed is None else max(self._fed, timestamp)
        self._fed_at = trio.current_time()
        if self._fed_at_advance is None:
            self._fed_at_advance = self._fed

    def advanced(self) -> None:
        self.patience = 0.0
        self._again()

    def _again(self) -> None:
        self._advanced_at = trio.current_time()
        self._fed_at_advance = self._fed

    def blocked(self, since: float | None) -> None:
        self._blocked_since = since

    def held(self, held: bool) -> None:
        self._held = held
        self._again()

    def stalled(self) -> str | None:
        """What is wrong, in words, or None."""
        if self._held:
            return None
        now, limit = trio.current_time(), self.stall_timeout + self.patience
        if self._blocked_since is None and now - self._fed_at > _IDLE and self.taken():
            self._again()
            return None
        if self._blocked_since is not None and now - max(self._blocked_since, self._advanced_at) > limit:
            return f"stalled: took no input for {limit:g} s"
        if self._fed is None or self._fed_at_advance is None:
            return None
        ahead = (self._fed - self._fed_at_advance) / 1e9
        if ahead > limit and now - self._advanced_at > limit:
            return f"stalled: no output for {limit:g} s, fed {ahead:.1f} s of media meanwhile"
        return None


class Input:
    """What a feeder writes to: the child's stdin, watched."""

    def __init__(self, stream: trio.abc.SendStream, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch
        self.bytes = 0

    async def write(self, data: bytes, timestamp: int) -> None:
        """Write *data*, whose last frame is at *timestamp* (ns).

        Raises `trio.BrokenResourceError` if the child does not take it any more.
        """
        self._watch.blocked(trio.current_time())
        self._watch.fed(timestamp)
        await self._stream.send_all(data)
        self._watch.blocked(None)
        self.bytes += len(data)


Feed = Callable[[Input], Awaitable[None]]
Check = Callable[[], str | None]


@define(eq=False)
class Child:
    """What to run and whom to tell. *args* is called with the number of the progress pipe's write end."""

    stream: str
    name: str
    args: Callable[[int], list[str]]
    config: SupervisorConfig
    secrets: tuple[str, ...] = ()
    on_start: Callable[[int], None] = lambda _pid: None
    on_progress: Callable[[Progress], None] = lambda _progress: None
    on_advance: Callable[[], None] = lambda: None
    #: Takes the child's stdout; without it stdout is closed. Its output then counts as the advance.
    on_output: Callable[[bytes], Awaitable[None]] | None = None
    #: How long beyond `stall_timeout` the first output may take.
    patience: float = 0.0
    #: Asked a few times a second: a cause to give the attempt up, or None.
    check: Check = lambda: None
    #: How it ended, once it has: negative for a signal.
    status: int | None = None


async def run_child(child: Child, feed: Feed) -> None:
    """Run one process: *feed* writes its stdin and returns at the end of the media.

    Returns when the process has ended by itself, with status 0, after its input ended. Raises
    `AttemptFailed` when it ends earlier or otherwise, stalls, or cannot be started; an `IngestdError`
    of *feed* comes out as it is. On every way out, cancellation included, the process is gone and
    reaped, and so is what it started in its process group.
    """
    process, progress = await _start(child)
    watch = Watch(child.config.stall_timeout, child.patience, partial(_has_taken_all, process))
    run = _Run(child, process, watch, StderrParser(child.secrets))
    try:
        child.on_start(process.pid)
        log.info("child_started", stream=child.stream, child=child.name, pid=process.pid)
        await run.run(progress, feed)
    finally:
        with trio.CancelScope(shield=True):
            # One that stalls would not act on SIGTERM either.
            await _end(process, child, firmly=run.failure is not None)
            child.status = process.returncode


def _has_taken_all(process: trio.Process) -> bool:
    """Nothing lies in the pipe to *process*."""
    try:
        unread = fcntl.ioctl(cast(trio.lowlevel.FdStream, process.stdin).fileno(), termios.FIONREAD, bytes(4))
    except (OSError, trio.ClosedResourceError):
        return False
    return not any(unread)


async def _start(child: Child) -> tuple[trio.Process, trio.lowlevel.FdStream]:
    """The process, and the read end of its progress pipe."""
    read_fd, write_fd = os.pipe()
    try:
        args = child.args(write_fd)
        try:
            process = await trio.lowlevel.open_process(
                args,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if child.on_output else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(write_fd,),
                # A Ctrl-C at the terminal is for the daemon, which ends its children in order.
                start_new_session=True,
                env=environment(),
            )
        except OSError as error:
            raise AttemptFailed(f"cannot start {args[0]}: {error.strerror}") from error
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    return process, trio.lowlevel.FdStream(read_fd)


@define(eq=False)
class _Run:
    child: Child
    process: trio.Process
    watch: Watch
    said: StderrParser
    fed_all: bool = False
    failure: str | None = None
    error: IngestdError | None = None
    _parser: ProgressParser = field(factory=ProgressParser)
    _last: Progress = field(factory=Progress)

    async def run(self, progress: trio.abc.ReceiveStream, feed: Feed) -> None:
        assert self.process.stderr is not None  # noqa: S101  we asked for the pipe
        async with progress, trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, feed)
            nursery.start_soon(self._watchdog, nursery.cancel_scope)
            readers = [
                partial(_drain, progress, self._progress),
                partial(_drain, self.process.stderr, self._stderr),
            ]
            if self.child.on_output:
                assert self.process.stdout is not None  # noqa: S101  we asked for the pipe
                readers.append(partial(_drain, self.process.stdout, self._output))
            async with trio.open_nursery() as reading:
                for reader in readers:
                    reading.start_soon(reader)
                await self.process.wait()
                # What it said last is still in the pipes; the other ends close with the process, and
                # with what it may have started itself.
                _signal_group(self.process, signal.SIGKILL)
            nursery.cancel_scope.cancel()
        self._judge()

    async def _feed(self, feed: Feed) -> None:
        stdin = self.process.stdin
        assert stdin is not None  # noqa: S101  we asked for the pipe
        try:
            await feed(Input(stdin, self.watch))
        except trio.BrokenResourceError:
            return  # The process is ending; why, its exit will tell.
        except IngestdError as error:
            self.error = error
            _signal_group(self.process, signal.SIGKILL)
            return
        self.fed_all = True
        self.watch.blocked(None)
        await stdin.aclose()
        with trio.move_on_after(self.child.config.stop_timeout):
            await self.process.wait()
            return
        self.failure = f"did not end within {self.child.config.stop_timeout:g} s of its input's end"
        _signal_group(self.process, signal.SIGTERM)
        with trio.move_on_after(_KILL_AFTER):
            await self.process.wait()
            return
        _signal_group(self.process, signal.SIGKILL)

    async def _watchdog(self, scope: trio.CancelScope) -> None:
        while self.failure is None:
            await trio.sleep(min(0.25, self.child.config.stall_timeout / 4))
            if not self.fed_all:
                self.failure = self.watch.stalled() or self.child.check()
        if not self.fed_all:
            scope.cancel()

    async def _output(self, data: bytes) -> None:
        assert self.child.on_output is not None  # noqa: S101  started only with it
        if self.failure is not None:
            return
        self.watch.held(True)
        try:
            await self.child.on_output(data)
        except AttemptFailed as failure:
            self.failure = str(failure)
            _signal_group(self.process, signal.SIGKILL)
            return
        finally:
            self.watch.held(False)
        self.child.on_advance()

    async def _progress(self, data: bytes) -> None:
        for progress in self._parser.feed(data):
            advanced = progress.beyond(self._last)
            self._last = progress
            self.child.on_progress(progress)
            if advanced and not self.child.on_output:
                self.watch.advanced()
                self.child.on_advance()

    async def _stderr(self, data: bytes) -> None:
        for line in self.said.feed(data):
            log.debug("child_says", stream=self.child.stream, child=self.child.name, line=line)

    def _judge(self) -> None:
        code = self.process.returncode
        if self.error is not None:
            raise self.error
        if self.failure is not None:
            said = self.said.cause()
            raise AttemptFailed(f"{self.failure}; {said}" if said else self.failure)
        if code == 0 and self.fed_all:
            return
        if code is not None and code < 0:
            raise AttemptFailed(f"killed by {_signal_name(-code)}")
        how = "ended before its input" if code == 0 else f"exited with status {code}"
        raise AttemptFailed(self.said.cause() or how)


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    """Signal *process* and what it has started: an FFmpeg may be a script around one."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _drain(stream: trio.abc.ReceiveStream, take: Callable[[bytes], Awaitable[None]]) -> None:
    try:
        async for data in stream:
            await take(bytes(data))
    except trio.ClosedResourceError:
        return


async def _end(process: trio.Process, child: Child, *, firmly: bool) -> None:
    """Make sure that *process* is gone: stdin closed, SIGTERM, SIGKILL; close its pipes."""
    if process.stdin is not None:
        await process.stdin.aclose()
    if process.returncode is None and not firmly:
        # Input was cut off half-way: FFmpeg finishes its files on SIGTERM once stdin is closed.
        _signal_group(process, signal.SIGTERM)
        with trio.move_on_after(_KILL_AFTER):
            await process.wait()
    _signal_group(process, signal.SIGKILL)
    await process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            await pipe.aclose()
    log.info("child_ended", stream=child.stream, child=child.name, pid=process.pid, status=process.returncode)
