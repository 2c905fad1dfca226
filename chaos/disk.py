"""A small file system for the daemon's state, which can be filled up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from tests.daemon.tools import small_disk


@frozen(slots=True)
class Disk:
    """A mounted file system."""

    path: Path

    @contextmanager
    def full(self, leave: int) -> Iterator[None]:
        """Take up all but *leave* bytes, for the time of the block."""
        ballast = self.path / "ballast"
        stat = os.statvfs(self.path)
        with ballast.open("wb", buffering=0) as file, suppress(OSError):  # somebody else may be faster
            for _ in range((stat.f_bavail * stat.f_frsize - leave) // stat.f_frsize):
                file.write(bytes(stat.f_frsize))
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def disk(path: Path, size: str) -> Iterator[Disk]:
    """Mount one of *size* at *path*; needs root."""
    with small_disk(path, size) as mounted:
        yield Disk(mounted)
