"""Child processes that outlive their daemon: marked when they are started, ended by the next one.

A SIGKILL of the daemon leaves its FFmpegs. Most of them end with their input, but one that is stopped
or stuck does not, and would write an old playlist or push an old picture whenever it comes to itself.

The mark is the identity of the state directory's lock, in the environment. Whoever holds that lock is the
only daemon there: what bears the mark and is not its own descendant is left over. Finding it takes Linux's
``/proc``; elsewhere nothing is looked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import structlog
import trio

log = structlog.get_logger(__name__)

MARK = "INGESTD_LOCK"

_PROC = Path("/proc")
_POLL = 0.02
#: The holder of which lock this task, and the tasks that it begins, work for.
_identity: ContextVar[str] = ContextVar("identity")


@contextmanager
def marking(identity: str) -> Iterator[None]:
    """What tasks begun in this block start with `environment` bears *identity*, as `state_lock` gives it."""
    token = _identity.set(identity)
    try:
        yield
    finally:
        _identity.reset(token)


def environment() -> dict[str, str]:
    """All that a child gets to know: where programs are, messages in English, and whose it is."""
    identity = _identity.get(None)
    mark = {} if identity is None else {MARK: identity}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **mark}


async def end_orphans(within: float = 5.0) -> None:
    """SIGKILL what earlier holders of this task's lock (see `marking`) have left, and wait until it is gone.

    To be called before anything else is done in the state directory. Raises nothing: a process that may not
    be signalled, or is not gone *within* so many seconds, is logged.
    """
    identity = _identity.get(None)
    if identity is None:
        return
    signalled: dict[int, str] = {}
    refused: set[int] = set()
    with trio.move_on_after(within):
        # Again until there is none: one may have begun another just before it died.
        while found := await trio.to_thread.run_sync(_find, identity, refused):
            async with trio.open_nursery() as nursery:
                for pid in found:
                    nursery.start_soon(_end, pid, identity, signalled, refused)
    for pid, program in signalled.items():
        cause = f"still there {within:g} s after SIGKILL"
        log.error("orphan_not_ended", pid=pid, program=program, cause=cause)


async def _end(pid: int, identity: str, signalled: dict[int, str], refused: set[int]) -> None:
    """End process *pid*; it is in *signalled* until it is gone, or then in *refused*."""
    try:
        with _handle(pid) as fd:
            # Only now is it certain to be the process that was found, and not another of its number.
            if not _is_marked(pid, identity):
                return
            program = _program(pid)
            if fd is None:
                os.kill(pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            signalled[pid] = program
            if fd is not None:
                await trio.lowlevel.wait_readable(fd)
            while fd is None and _is_marked(pid, identity):  # noqa: ASYNC110  there is nothing to wait for
                await trio.sleep(_POLL)
            del signalled[pid]
            log.warning("orphan_ended", pid=pid, program=program)
    except ProcessLookupError:
        return
    except OSError as error:
        refused.add(pid)
        log.error("orphan_not_ended", pid=pid, program=_program(pid), cause=error.strerror)  # noqa: TRY400


@contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    """A descriptor that stands for process *pid*, whatever its number comes to mean; None on an old kernel.

    Raises ProcessLookupError if there is no such process.
    """
    fd: int | None = None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        pass  # a Python that was built without it, Linux before 5.3, or forbidden
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _find(identity: str, refused: set[int]) -> list[int]:
    """The processes of this user that bear *identity*, except *refused* ones and descendants of this one."""
    found = []
    for directory in _PROC.glob("[0-9]*"):
        pid = int(directory.name)
        with suppress(OSError):  # it is gone
            mine = directory.stat().st_uid == os.geteuid() and pid not in refused
            if mine and _is_marked(pid, identity) and not _descends(pid):
                found.append(pid)
    return found


def _is_marked(pid: int, identity: str) -> bool:
    """Whether process *pid* runs, and was started by a holder of *identity*."""
    try:
        entries = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # it is gone, or another user's
        return False
    return f"{MARK}={identity}".encode() in entries


def _descends(pid: int) -> bool:
    """Whether process *pid* is this one or was started, directly or not, by it."""
    while pid > 1 and pid != os.getpid():
        pid = int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return pid == os.getpid()


def _program(pid: int) -> str:
    """The name of process *pid*'s program. Not its arguments: they may hold a target's key."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "unknown"
