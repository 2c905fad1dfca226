"""The boxes that MP4 is made of (ISO/IEC 14496-12, section 4.2): reading and writing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from ingestd.errors import MediaError
from ingestd.media.frames import NS_PER_S

MAX_HEAD = 16
"""The longest head of a box: size, type and a size of 64 bits."""

_TERMINATOR = b"\0\0\0\x08\0\0\0\0"


@frozen(slots=True)
class Box:
    """One box: its type, where it and its body begin in the stream, and the body."""

    type: bytes
    start: int
    body_start: int
    body: memoryview

    @property
    def name(self) -> str:
        """The type as text."""
        return self.type.decode("latin-1")

    def unpack(self, layout: str, at: int = 0) -> tuple[Any, ...]:
        """Unpack big-endian fields at byte *at* of the body; MediaError if it is too short."""
        try:
            return struct.unpack_from(f">{layout}", self.body, at)
        except struct.error:
            raise MediaError(
                self.start, f"a {self.name!r} box of {len(self.body)} bytes is too short"
            ) from None

    def full(self) -> tuple[int, int]:
        """Version and flags, which take the first 4 bytes of a full box's body."""
        (word,) = self.unpack("I")
        return word >> 24, word & 0xFFFFFF


def read_head(data: bytes | bytearray, start: int) -> tuple[bytes, int, int] | None:
    """Return ``(type, size with the head, length of the head)`` of the box that *data* begins with.

    None if more bytes are needed. Raises `MediaError` with offset *start* for what cannot be a box,
    and for the size 0, which says that nothing follows: a live stream has no such box.
    """
    if len(data) < 8:
        return None
    size, kind, head = int.from_bytes(data[:4], "big"), bytes(data[4:8]), 8
    if not all(0x20 <= byte < 0x7F for byte in kind):
        raise MediaError(start, f"not a box: its type would be {data[4:8].hex()}")
    if size == 1:
        if len(data) < 16:
            return None
        size, head = int.from_bytes(data[8:16], "big"), 16
    if size == 0:
        raise MediaError(start, f"a {kind.decode()!r} box without a size: expected one, for a live stream")
    if size < head:
        raise MediaError(start, f"a {kind.decode()!r} box of {size} bytes: its head alone has {head}")
    return kind, size, head


def children(box: Box, skip: int = 0) -> Iterator[Box]:
    """Yield the boxes in the body of *box*, after *skip* bytes of fields.

    Raises `MediaError` for a child that reaches beyond its parent. QuickTime's two ways to end a
    list, zeros that are no head and an empty box without a type, are passed over.
    """
    body, pos, end = box.body, skip, len(box.body)
    if skip > end:
        raise MediaError(box.start, f"a {box.name!r} box of {end} bytes is too short")
    while pos < end:
        start = box.body_start + pos
        if body[pos : pos + 8] == _TERMINATOR:
            return
        head = read_head(bytes(body[pos : pos + MAX_HEAD]), start)
        if head is None:
            if any(body[pos:]):
                raise MediaError(start, f"a box is cut short at the end of {box.name!r}")
            return
        kind, size, length = head
        if size > end - pos:
            raise MediaError(start, f"a {kind.decode()!r} box reaches beyond the end of {box.name!r}")
        yield Box(kind, start, start + length, body[pos + length : pos + size])
        pos += size


def find(box: Box, *path: bytes) -> Box | None:
    """Return the first box at the end of *path*, one type a level; None if it is not there."""
    for kind in path:
        found = next((child for child in children(box) if child.type == kind), None)
        if found is None:
            return None
        box = found
    return box


def need(box: Box, *path: bytes) -> Box:
    """Return what `find` does; MediaError if it is not there."""
    found = find(box, *path)
    if found is None:
        names = "/".join(kind.decode() for kind in path)
        raise MediaError(box.start, f"a {box.name!r} box without {names!r}")
    return found


def to_ns(time: int, timescale: int) -> int:
    """*time* in units of 1/*timescale* s as the nearest nanosecond."""
    return (2 * time * NS_PER_S + timescale) // (2 * timescale)


def encode(kind: bytes, *parts: bytes) -> bytes:
    """Encode one box with the body *parts*."""
    size = 8 + sum(map(len, parts))
    return b"".join((size.to_bytes(4, "big"), kind, *parts))


def encode_full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Encode one full box."""
    return encode(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)
