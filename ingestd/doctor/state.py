"""Whether the state directory can be written to, has space, and gives space back."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import trio

from ingestd.config import Config, JournalConfig
from ingestd.doctor.finding import Finding, failed, ok, warning
from ingestd.live.journal_file import punch_hole
from ingestd.units import format_size

_HOLE = 2**20
_MARGIN = 2**30
_MIB = 2**20


async def examine(config: Config) -> list[Finding]:
    """What is found out with one small file, which is removed again. No directory is made."""
    return await trio.to_thread.run_sync(_examine, config.storage.state_dir, config.journal)


def _examine(state: Path, journal: JournalConfig) -> list[Finding]:
    # What is not there yet is made by the daemon, in the first directory above it that is.
    directory = next((path for path in (state, *state.parents) if path.exists()), state)
    note = "" if directory == state else f" (not there yet; {directory} can be written to)"
    try:
        holes = _try(directory)
    except OSError as error:
        text = f"{state}: cannot be written to: {error.strerror} ({directory})"
        mend = "make storage.state_dir a directory that this user may write to; the daemon's user, as a rule"
        return [failed("state", text, mend)]
    found = [ok("state", f"{state}{note}"), _space(directory, journal)]
    if not holes:
        text = "the file system cannot punch holes: a journal only gives its space back when its session ends"
        mend = "use ext4, XFS, Btrfs or tmpfs for state_dir, or keep journal.max_size small"
        found.append(warning("journal", text, mend))
    return found


def _try(directory: Path) -> bool:
    """Write, sync and remove a file; whether a hole could be made in it."""
    fd, name = tempfile.mkstemp(prefix=".ingestd-doctor-", dir=directory)
    try:
        data = memoryview(bytes(2 * _HOLE))
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
        return punch_hole(fd, 0, _HOLE)
    finally:
        os.close(fd)
        Path(name).unlink()


def _space(directory: Path, journal: JournalConfig) -> Finding:
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    text = f"{_round(free)} free, of which {format_size(journal.min_free)} stay free (journal.min_free)"
    if free < journal.min_free:
        text = f"{_round(free)} free: less than journal.min_free ({format_size(journal.min_free)})"
        ends = "every session ends at once" if journal.on_full == "end" else "nothing is journaled"
        return failed("disk", f"{text}, so {ends}", "free some space, or set journal.min_free lower")
    if stat.f_blocks and free - journal.min_free < _MARGIN:
        return warning("disk", text, "free some space: a stream of 3 Mbit/s fills 1 GiB in 48 minutes")
    return ok("disk", text)


def _round(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / _MIB:.1f} MiB"
