"""Matroska's Colour (RFC 9559, section 5.1.4.1.28.16): what the numbers of a picture mean. No I/O.

The values are those of ISO/IEC 23091-2, which MP4's colr box holds, too.
"""

from __future__ import annotations

from attrs import frozen

from ingestd.media.ebml import encode_uint

_MATRIX, _RANGE, _TRANSFER, _PRIMARIES = 0x55B1, 0x55B9, 0x55BA, 0x55BB
_UNSPECIFIED = 2
_BROADCAST, _FULL = 1, 2


@frozen(slots=True)
class Colour:
    """Code points of primaries, transfer and matrix, and whether the range is full."""

    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED
    full: bool = False

    def encode(self) -> bytes:
        """Return the body of a Colour element."""
        return (
            encode_uint(_MATRIX, self.matrix)
            + encode_uint(_RANGE, _FULL if self.full else _BROADCAST)
            + encode_uint(_TRANSFER, self.transfer)
            + encode_uint(_PRIMARIES, self.primaries)
        )


def parse(body: bytes) -> Colour:
    """Read the *body* of a Colour element; what it leaves open is unspecified, and of limited range."""
    values: dict[int, int] = {}
    pos = 0
    # Its plain children have two bytes of id and one of size; what is longer holds no such value.
    while pos + 3 <= len(body) and body[pos + 2] & 0x80:
        element, size = int.from_bytes(body[pos : pos + 2], "big"), body[pos + 2] & 0x7F
        values[element] = int.from_bytes(body[pos + 3 : pos + 3 + size], "big") & 0xFFFF
        pos += 3 + size
    primaries, transfer, matrix = (
        values.get(element, _UNSPECIFIED) for element in (_PRIMARIES, _TRANSFER, _MATRIX)
    )
    return Colour(primaries, transfer, matrix, values.get(_RANGE) == _FULL)


_BT601 = Colour(primaries=6, transfer=6, matrix=6).encode()


def stated(codec: str, body: bytes) -> bytes:
    """Return *body*, or what *codec* means where its container says nothing.

    VP8's frames cannot say it: they are BT.601's (RFC 6386, section 9.2).
    """
    return body or (_BT601 if codec == "vp8" else b"")
