"""One daemon a state directory: a second would take the first one's live recordings for a dead one's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def state_lock(directory: Path) -> Iterator[None]:
    """Hold *directory* for this process. Raises BlockingIOError if another one holds it.

    The kernel gives the lock back when the process dies, however it dies: a file that is left
    behind locks nobody out.
    """
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
