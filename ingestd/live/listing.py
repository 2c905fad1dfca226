"""A playlist and its segments on disk. All calls block: use them in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from ingestd.media.playlist import MediaPlaylist, is_whole, parse_media_playlist
from ingestd.media.segments import ends_whole, first_time

#: Which file it is, when it was changed, its size. A playlist that was replaced is always another file.
Stamp = tuple[int, int, int]


@frozen(slots=True)
class Listing:
    """What was found at the playlist's path; *whole* unless it was emptied or cut short."""

    stamp: Stamp
    text: str
    playlist: MediaPlaylist
    whole: bool


def load(path: Path, seen: Stamp | None) -> Listing | None:
    """The playlist at *path*; None if it is the one with stamp *seen*, or there is none."""
    try:
        with path.open("rb") as file:
            stamp = _stamp(file)
            if stamp == seen:
                return None
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    return Listing(stamp, text, parse_media_playlist(text), is_whole(text))


def write_back(path: Path, text: str, discard: Callable[[], None]) -> Listing | None:
    """Make *text* the playlist at *path*, then *discard* what it lists no more; without text only discard.

    Raises OSError if the playlist cannot be written, and then the old one stays.
    """
    if not text:
        discard()
        return None
    try:
        written = _replace(path, text)
    except OSError:
        # It may be their room that is missing.
        discard()
        return _replace(path, text)
    discard()
    return written


def begins(folder: Path, init: str | None, uri: str, near: int) -> int | None:
    """When the segment *uri* begins, in ns; None if that cannot be told. See `first_time`."""
    try:
        return first_time((folder / init).read_bytes() if init else b"", (folder / uri).read_bytes(), near)
    except OSError:
        return None


def room(folder: Path) -> int:
    """Bytes that can be written to *folder*'s file system."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def damage(path: Path, payload: int) -> str | None:
    """What is wrong with the segment at *path* that holds *payload* bytes of media, or None."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < payload:
                return f"the disk cut short segment {path.name}: {size} bytes, for {payload} of media"
            if not ends_whole(size, lambda offset, count: _read(file, offset, count)):
                return f"the disk cut short segment {path.name}: it ends in the middle"
    except FileNotFoundError:
        return f"segment {path.name} is listed, but not there"
    except OSError as error:
        return f"segment {path.name} cannot be read: {error.strerror}"
    return None


def _replace(path: Path, text: str) -> Listing:
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(text.encode())
            file.flush()
            stamp = _stamp(file)
        os.replace(fresh, path)  # noqa: PTH105  says what it does
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return Listing(stamp, text, parse_media_playlist(text), whole=True)


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _stamp(file: BinaryIO) -> Stamp:
    stat = os.fstat(file.fileno())
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
