"""SimpleBlock and BlockGroup of WebM and Matroska, and their lacing (RFC 9559, sections 10 and 5.1.3)."""

from __future__ import annotations

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import Element, children, read_uint, read_vint
from ingestd.media.frames import Frame, Payload
from ingestd.media.webm_header import MAX_TIME, TrackEntry

_KEYFRAME, _LACING = 0x80, 0x06
_XIPH, _FIXED = 0x02, 0x04


def parse_block(
    body: memoryview,
    offset: int,
    entries: dict[int, TrackEntry],
    cluster: int,
    scale: int,
    *,
    keyframe: bool | None = None,
    duration: int | None = None,
) -> list[Frame]:
    """Return the frames of the SimpleBlock or Block with *body*, which begins at *offset* of the stream.

    *cluster* and *duration* are in nanoseconds, *scale* is nanoseconds a tick. *keyframe* None
    means that the block's own flag counts. Laced frames after the first are spaced by
    DefaultDuration, or share *duration* evenly; if neither is known, they carry the first one's time.
    """
    size = len(body)
    number = body[0] if size else 0
    if number & 0x80:
        number, pos = number & 0x7F, 1
    else:
        number, pos = read_vint(body, 0, offset)
    if pos + 3 > size:
        raise MediaError(offset, "a block is too short for its own header")
    entry = entries.get(number)
    if entry is None:
        raise MediaError(offset, f"a block of track {number}, which Tracks does not declare")
    track = entry.track
    if track is None:
        return []
    relative = body[pos] << 8 | body[pos + 1]
    if relative & 0x8000:
        relative -= 0x10000
    flags = body[pos + 2]
    timestamp = cluster + relative * scale - track.codec_delay
    if not -MAX_TIME <= timestamp <= MAX_TIME:
        raise MediaError(offset, "a block's timestamp is out of range")
    if keyframe is None:
        keyframe = flags & _KEYFRAME != 0
    if not flags & _LACING:
        payload: Payload = body[pos + 3 :]
        if entry.stripped:
            payload = entry.stripped + bytes(payload)
        return [Frame(number, timestamp, keyframe, payload, duration)]
    payloads = _unlace(body, pos + 3, offset, flags & _LACING)
    step = track.default_duration or (duration or 0) // len(payloads)
    return [
        Frame(
            number,
            timestamp + index * step,
            keyframe,
            entry.stripped + bytes(payload) if entry.stripped else payload,
            step or None,
        )
        for index, payload in enumerate(payloads)
    ]


def parse_block_group(
    group: Element, entries: dict[int, TrackEntry], cluster: int, scale: int
) -> list[Frame]:
    """Return the frames of a BlockGroup (RFC 9559, section 5.1.3.5): a keyframe references no other block."""
    block: Element | None = None
    duration: int | None = None
    keyframe = True
    for child in children(group):
        if child.id == ids.BLOCK:
            block = child
        elif child.id == ids.BLOCK_DURATION:
            duration = read_uint(child) * scale
            if duration > MAX_TIME:
                raise MediaError(child.start, "a BlockDuration is out of range")
        elif child.id == ids.REFERENCE_BLOCK:
            keyframe = False
    if block is None:
        raise MediaError(group.start, "a BlockGroup without a Block")
    return parse_block(block.body, block.start, entries, cluster, scale, keyframe=keyframe, duration=duration)


def _unlace(body: memoryview, pos: int, offset: int, lacing: int) -> list[memoryview]:
    """Split a laced block's payload into frames (RFC 9559, section 10.3)."""
    size = len(body)
    if pos >= size:
        raise MediaError(offset, "a laced block without its frame count")
    count, pos = body[pos] + 1, pos + 1
    if lacing == _FIXED:
        length, rest = divmod(size - pos, count)
        if rest:
            raise MediaError(offset, f"{size - pos} bytes cannot be {count} frames of one size")
        sizes = [length] * (count - 1)
    elif lacing == _XIPH:
        sizes, pos = _xiph_sizes(body, pos, offset, count)
    else:
        sizes, pos = _ebml_sizes(body, pos, offset, count)
    frames = []
    for length in sizes:
        if length < 0 or pos + length > size:
            raise MediaError(offset, "laced frames reach beyond the end of their block")
        frames.append(body[pos : pos + length])
        pos += length
    frames.append(body[pos:])
    if not all(frames):
        # Nobody sends these, and a block of 8 bytes could claim 256 of them.
        raise MediaError(offset, "an empty laced frame")
    return frames


def _xiph_sizes(body: memoryview, pos: int, offset: int, count: int) -> tuple[list[int], int]:
    sizes = []
    for _ in range(count - 1):
        length = 0
        while True:
            if pos >= len(body):
                raise MediaError(offset, "the sizes of laced frames are cut short")
            octet, pos = body[pos], pos + 1
            length += octet
            if octet < 255:
                break
        sizes.append(length)
    return sizes, pos


def _ebml_sizes(body: memoryview, pos: int, offset: int, count: int) -> tuple[list[int], int]:
    sizes: list[int] = []
    for _ in range(count - 1):
        value, stop = read_vint(body, pos, offset)
        if sizes:  # each size but the first is a difference, biased to be signed
            value += sizes[-1] - ((1 << 7 * (stop - pos) - 1) - 1)
        sizes.append(value)
        pos = stop
    return sizes, pos
