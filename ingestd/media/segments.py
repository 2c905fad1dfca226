"""Media segments of HLS: when one begins, and whether it was cut short."""

from __future__ import annotations

from collections.abc import Callable

from ingestd.errors import MediaError
from ingestd.media.frames import NS_PER_S, Frame, Header, Kind
from ingestd.media.mp4_boxes import MAX_HEAD, read_head
from ingestd.media.mp4_demux import Mp4Demuxer

#: A transport stream is made of packets of this size that begin with this byte (ISO/IEC 13818-1, 2.4.3).
_TS_PACKET, _TS_SYNC = 188, b"\x47"
#: Its clock, and where that begins anew (2.4.3.7): after 26.5 hours.
_TS_HZ, _TS_WRAP = 90_000, 2**33


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


def first_time(init: bytes, segment: bytes, near: int) -> int | None:
    """When the first picture, or without pictures the first sound, of *segment* is shown, in ns.

    *init* is its init segment, empty for a transport stream, whose clock runs in a circle: of the times
    that it may mean, the one nearest to *near* is taken. None if there is no telling.
    """
    if segment[:1] != _TS_SYNC:
        return _first_frame(init + segment)
    ticks = _first_pts(segment)
    if ticks is None:
        return None
    laps = round((near * _TS_HZ / NS_PER_S - ticks) / _TS_WRAP)
    return (ticks + laps * _TS_WRAP) * NS_PER_S // _TS_HZ


def _first_frame(data: bytes) -> int | None:
    demuxer = Mp4Demuxer()
    try:
        events = demuxer.feed(data) + demuxer.close()
    except MediaError:
        return None
    tracks = [track for event in events if isinstance(event, Header) for track in event.tracks]
    pictures = {track.number for track in tracks if track.kind is Kind.VIDEO}
    frames = [event for event in events if isinstance(event, Frame)]
    return next((f.timestamp for f in frames if f.track in pictures or not pictures), None)


def _first_pts(segment: bytes) -> int | None:
    """The first PTS of a picture, or without one of a sound (ISO/IEC 13818-1, 2.4.3.6)."""
    sound = None
    for at in range(0, len(segment) - _TS_PACKET + 1, _TS_PACKET):
        packet = segment[at : at + _TS_PACKET]
        begins, adapted, filled = packet[1] & 0x40, packet[3] & 0x20, packet[3] & 0x10
        body = packet[5 + packet[4] if adapted else 4 :] if begins and filled else b""
        if body[:3] != b"\0\0\1" or len(body) < 14 or not body[7] & 0x80:
            continue
        pts = (
            (body[9] & 0x0E) << 29 | body[10] << 22 | (body[11] & 0xFE) << 14 | body[12] << 7 | body[13] >> 1
        )
        if body[3] & 0xF0 == 0xE0:
            return pts
        if body[3] & 0xE0 == 0xC0 and sound is None:
            sound = pts
    return sound
