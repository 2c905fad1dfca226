"""One file of a journal, and what is done with its bytes. All calls block: use them in a thread."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from attrs import define

_FALLOC_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02  # linux/falloc.h


def media_path(directory: Path, prefix: str, recorder: int) -> Path:
    """Where the bytes of *recorder* (from 1) are."""
    return directory / f"{prefix}-{recorder:04}.media"


@define(eq=False)
class RecorderFile:
    """One recorder's bytes: *size* of them written; *hole* is the range given back to the disk."""

    path: Path
    fd: int = -1
    size: int = 0
    hole: tuple[int, int] = (0, 0)

    @property
    def kept(self) -> int:
        return self.size - (self.hole[1] - self.hole[0])

    def open(self) -> None:
        new = 0 if self.size else os.O_CREAT | os.O_EXCL
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | new, 0o640)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Take back `open`."""
        if self.fd >= 0:
            self.close()
            self.path.unlink(missing_ok=True)


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of *data* at *offset*."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_at(path: Path, size: int, offset: int) -> bytes:
    """Up to *size* bytes at *offset* of the file at *path*."""
    # By an own descriptor: the one that is written to may be closed meanwhile.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def punch(path: Path, offset: int, size: int) -> bool:
    """`punch_hole` in the file at *path*."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return punch_hole(fd, offset, size)
    finally:
        os.close(fd)


def punch_hole(fd: int, offset: int, size: int) -> bool:
    """Deallocate a range (fallocate(2)); False where the file system cannot, which then keeps the bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.fallocate(
        fd, _FALLOC_KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_longlong(offset), ctypes.c_longlong(size)
    )
    return bool(result == 0)
