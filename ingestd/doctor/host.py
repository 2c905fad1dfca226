"""Whether the machine's clock is right, and whether it lets us open enough files."""

from __future__ import annotations

import resource
import shutil
import subprocess
from datetime import UTC, datetime

import trio

from ingestd.config import Config
from ingestd.doctor.finding import Finding, failed, ok, warning

_EARLIEST = 2024
_TIMEDATECTL_TIMEOUT = 5.0

#: Descriptors of the daemon itself, with its listeners and some HTTP clients.
_BASE = 128
#: Of a session: the publisher, two journals of two files, and an encoder's pipes.
_SESSION = 12
#: Of a sink: a child's pipes and its pidfd, or a file.
_SINK = 5


def clock(now: datetime | None = None) -> Finding:
    """The year: a machine without a battery begins in 1970, and then no certificate is valid."""
    now = now or datetime.now(UTC)
    if now.year < _EARLIEST:
        text = (
            f"{now:%Y-%m-%d %H:%M} UTC cannot be right: no certificate is valid yet, and names of files lie"
        )
        return failed("clock", text, "set the clock (`timedatectl set-ntp true`, or an NTP client)")
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC")


async def synchronisation() -> list[Finding]:
    """Whether the clock is kept right, where ``timedatectl`` is there and can tell; else nothing."""
    program = shutil.which("timedatectl")
    if program is None:
        return []
    argv = [program, "show", "--property=NTPSynchronized", "--value"]
    with trio.move_on_after(_TIMEDATECTL_TIMEOUT):
        try:
            done = await trio.run_process(
                argv, stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False
            )
        except OSError:
            return []
        if done.returncode == 0 and done.stdout.strip() == b"no":
            text = "the clock is not synchronised: playlists' dates and logs drift"
            return [warning("ntp", text, "`timedatectl set-ntp true`, or install an NTP client")]
        if done.returncode == 0 and done.stdout.strip() == b"yes":
            return [ok("ntp", "the clock is synchronised")]
    return []


def descriptors(config: Config) -> Finding:
    """The soft limit of open files, against what ``max_streams`` of the largest pipeline and viewers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sinks = max((len(pipeline.sinks) for pipeline in config.pipelines.values()), default=0)
    each, streams, viewers = _SESSION + sinks * _SINK, config.ingest.max_streams, config.viewers.max
    needed = _BASE + streams * each + viewers
    if soft == resource.RLIM_INFINITY or soft >= needed:
        limit = "no limit" if soft == resource.RLIM_INFINITY else f"up to {soft}"
        return ok("open files", f"{limit}, enough for {streams} streams and {viewers} viewers")
    enough = max(0, soft - _BASE) // each
    mend = (
        f"raise it to {needed} (LimitNOFILE= in the unit, `ulimit -n`), or lower max_streams or viewers.max"
    )
    fits = f"about {enough} of {streams} streams"
    if enough >= streams:
        fits = f"{streams} streams, and {soft - needed + viewers} of {viewers} viewers"
    text = f"up to {soft} (at most {hard}): enough for {fits}"
    return warning("open files", text, mend) if enough else failed("open files", text, mend)
