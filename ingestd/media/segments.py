"""Media segments of HLS: whether one ends where its container may end, or was cut short."""

from __future__ import annotations

from collections.abc import Callable

from ingestd.errors import MediaError
from ingestd.media.mp4_boxes import MAX_HEAD, read_head

#: A transport stream is made of packets of this size that begin with this byte (ISO/IEC 13818-1, 2.4.3).
_TS_PACKET, _TS_SYNC = 188, b"\x47"


def ends_whole(size: int, read: Callable[[int, int], bytes]) -> bool:
    """True if the *size* bytes that *read* (offset, length) gives end with a whole TS packet or MP4 box.

    A disk cuts a file short at a multiple of its block size, which is no multiple of a packet's but
    once in 47. What is neither a transport stream nor MP4 cannot be judged, and passes if it is not empty.
    """
    head = read(0, MAX_HEAD)
    if head[:1] == _TS_SYNC:
        return size % _TS_PACKET == 0
    at = 0
    while at < size:
        try:
            box = read_head(read(at, MAX_HEAD), at)
        except MediaError:
            return at == 0
        if box is None:
            return False
        at += box[1]
    return 0 < size == at
