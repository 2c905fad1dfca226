"""EBML, the binary markup under WebM and Matroska (RFC 8794): reading and writing of elements.

An element is an id, a size and a body. Ids keep their length marker, as RFC 9559 prints them
(``0x1A45DFA3``). A size whose value bits are all ones says *unknown* (RFC 8794, section 6.2).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from ingestd.errors import MediaError

Buffer: TypeAlias = bytes | bytearray | memoryview

UNKNOWN = -1
"""The size of an element that does not say where it ends."""

MAX_HEAD = 12
"""Longest id (4 bytes) and longest size (8 bytes): what a head can take at most."""

EBML, EBML_READ_VERSION, EBML_MAX_ID_LENGTH, EBML_MAX_SIZE_LENGTH = 0x1A45DFA3, 0x42F7, 0x42F2, 0x42F3
EBML_VERSION, DOC_TYPE, DOC_TYPE_VERSION, DOC_TYPE_READ_VERSION = 0x4286, 0x4282, 0x4287, 0x4285
VOID, CRC32 = 0xEC, 0xBF


def read_head(data: Buffer, pos: int, end: int, offset: int) -> tuple[int, int, int] | None:
    """Read an element's id and size at *pos*: ``(id, size, bytes taken)``, or None if *end* comes too early.

    *offset* is where the element begins in the stream, for the `MediaError` that a malformed id
    (RFC 8794, section 5) or size (section 6) raises.
    """
    if pos >= end:
        return None
    id_length = 9 - data[pos].bit_length()
    if id_length > 4:
        raise MediaError(offset, f"0x{data[pos]:02x} cannot begin an element id of at most 4 bytes")
    size_at = pos + id_length
    if size_at >= end:
        return None
    element = int.from_bytes(data[pos:size_at], "big")
    ones = (1 << 7 * id_length) - 1
    if element & ones in (0, ones):
        raise MediaError(offset, f"0x{element:x} is a reserved element id")
    size_length = 9 - data[size_at].bit_length()
    if size_length > 8:
        raise MediaError(offset, f"the size of element 0x{element:x} is longer than 8 bytes")
    stop = size_at + size_length
    if stop > end:
        return None
    ones = (1 << 7 * size_length) - 1
    size = int.from_bytes(data[size_at:stop], "big") & ones
    return element, UNKNOWN if size == ones else size, stop - pos


class Element(NamedTuple):
    """A whole element: where it begins in the stream, where its body does, and the body."""

    id: int
    start: int
    at: int
    body: memoryview


def children(parent: Element) -> Iterator[Element]:
    """Yield each child of a whole master element.

    Raises `MediaError` for a child that is cut short or of unknown size (which RFC 9559 allows to
    Segment and Cluster only).
    """
    body, pos = parent.body, 0
    end = len(body)
    while pos < end:
        start = parent.at + pos
        head = read_head(body, pos, end, start)
        if head is None:
            raise MediaError(start, "an element is cut short by the end of its parent")
        element, size, taken = head
        stop = pos + taken + size
        if size == UNKNOWN:
            raise MediaError(start, f"element 0x{element:x} may not have an unknown size")
        if stop > end:
            raise MediaError(start, f"element 0x{element:x} reaches beyond the end of its parent")
        yield Element(element, start, start + taken, body[pos + taken : stop])
        pos = stop


def read_vint(body: memoryview, pos: int, offset: int) -> tuple[int, int]:
    """Read a variable-size integer at *pos* of *body*: ``(value, position after it)``."""
    if pos >= len(body):
        raise MediaError(offset, "a variable-size integer is missing")
    length = 9 - body[pos].bit_length()
    stop = pos + length
    if length > 8 or stop > len(body):
        raise MediaError(offset, "a variable-size integer is cut short")
    return int.from_bytes(body[pos:stop], "big") & ((1 << 7 * length) - 1), stop


def read_uint(element: Element) -> int:
    """Unsigned Integer Element (RFC 8794, section 7.2): up to 8 bytes, an empty one is 0."""
    if len(element.body) > 8:
        raise MediaError(element.start, f"an integer of {len(element.body)} bytes: expected at most 8")
    return int.from_bytes(element.body, "big")


def read_float(element: Element) -> float:
    """Float Element (RFC 8794, section 7.3): 0, 4 or 8 bytes. NaN and infinities are refused."""
    body = element.body
    if len(body) not in (0, 4, 8):
        raise MediaError(element.start, f"a float of {len(body)} bytes: expected 0, 4 or 8")
    value: float = struct.unpack(">d" if len(body) == 8 else ">f", body)[0] if body else 0.0
    if not math.isfinite(value):
        raise MediaError(element.start, "a float that is not a finite number")
    return value


def read_string(element: Element) -> str:
    """String Element (RFC 8794, section 7.4): ends at the first NUL; bytes that are not ASCII are escaped."""
    return bytes(element.body).split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def vint(value: int, length: int = 0) -> bytes:
    """Encode a size or track number in *length* bytes, or in as few as hold it without meaning unknown."""
    if not length:
        length = max(1, ((value + 1).bit_length() + 6) // 7)
    return (value | 1 << 7 * length).to_bytes(length, "big")


def unknown_size(length: int = 8) -> bytes:
    """Encode the size that says *unknown* in *length* bytes."""
    return ((1 << 7 * length + 1) - 1).to_bytes(length, "big")


def encode_id(element: int) -> bytes:
    """Encode an element id, which carries its own length marker."""
    return element.to_bytes((element.bit_length() + 7) // 8, "big")


def encode(element: int, body: bytes) -> bytes:
    """Encode one element with a binary body, or a master whose children are *body*."""
    return encode_id(element) + vint(len(body)) + body


def encode_uint(element: int, value: int) -> bytes:
    """Encode an unsigned integer element in as few bytes as hold it."""
    return encode(element, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def encode_float(element: int, value: float) -> bytes:
    """Encode a float element of 8 bytes."""
    return encode(element, struct.pack(">d", value))


def encode_string(element: int, value: str) -> bytes:
    """Encode a string element."""
    return encode(element, value.encode())


def void(total: int) -> bytes:
    """Encode a Void element (RFC 8794, section 11.3.2) of *total* bytes, head included; at least 2."""
    length = 1 if total < 128 else 8
    return encode_id(VOID) + vint(total - 1 - length, length) + bytes(total - 1 - length)
