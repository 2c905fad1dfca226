"""One daemon a state directory: a second would take the first one's live recordings for a dead one's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def state_lock(directory: Path) -> Iterator[str]:
    """Hold *directory* for this process. Raises BlockingIOError if another one holds it.

    Gives the lock's identity: no other one on this host has it, and the same directory always the same.

    The kernel gives the lock back when the process dies, however it dies: a file that is left
    behind locks nobody out.
    """
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        # Not a path: that can be spelled in many ways, and be another directory in a container.
        yield f"{status.st_dev}:{status.st_ino}"
    finally:
        os.close(fd)
