"""Where clocks begin anew, and recorders whose clock is just before that."""

from __future__ import annotations

import re
import struct

from ingestd.media import webm_codecs as ids
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.ebml import encode_uint, read_head
from ingestd.media.frames import SegmentStart

#: After how many seconds: MPEG-TS, signed and unsigned milliseconds (FLV, RTMP), and MP4's shorter times.
WRAPS = {
    "33 bits at 90 kHz": 2**33 / 90_000,
    "31 bits of ms": 2**31 / 1000,
    "32 bits of ms": 2**32 / 1000,
    "32 bits at 48 kHz": 2**32 / 48_000,
    "32 bits at 30 kHz": 2**32 / 30_000,
}


def even_second(wrap: str, before: float) -> int:
    """The last even second at least *before* seconds before *wrap*: where a program's grids begin alike."""
    return int((WRAPS[wrap] - before) / 2) * 2


def moved(data: bytes, seconds: int) -> bytes:
    """*data*, a browser's WebM, Matroska or MP4, as a recorder whose clock is *seconds* ahead writes it.

    MP4 keeps its length. A Cluster's Timestamp may take more bytes than before.
    """
    starts = [e.offset for e in SniffingDemuxer().feed(data) if isinstance(e, SegmentStart)]
    return _moved_mp4(data, starts, seconds) if data[4:8] == b"ftyp" else _moved_webm(data, starts, seconds)


def _moved_webm(data: bytes, starts: list[int], seconds: int) -> bytes:
    out, done = b"", 0
    for at in starts:
        for element in (ids.CLUSTER, ids.TIMESTAMP):
            head = read_head(data, at, len(data), at)
            assert head is not None
            assert head[0] == element
            begin, at = at, at + head[2]
        end = at + head[1]
        time = int.from_bytes(data[at:end], "big") + seconds * 1000
        out, done = out + data[done:begin] + encode_uint(ids.TIMESTAMP, time), end
    return out + data[done:]


def _moved_mp4(data: bytes, starts: list[int], seconds: int) -> bytes:
    out = bytearray(data)
    for at in starts:
        # Each recorder's own moov comes before its fragments.
        moov = data.rfind(b"moov", 0, at)
        scales = [_timescale(data, mdhd) for mdhd in _all(b"mdhd", data, moov, at)]
        begin = data.index(b"moof", at)
        end = begin - 4 + int.from_bytes(data[begin - 4 : begin], "big")
        for head, time in zip(_all(b"tfhd", data, begin, end), _all(b"tfdt", data, begin, end), strict=True):
            scale = scales[int.from_bytes(data[head + 8 : head + 12], "big") - 1]
            assert data[time + 4] == 1  # 64 bits
            (was,) = struct.unpack_from(">Q", data, time + 8)
            struct.pack_into(">Q", out, time + 8, was + seconds * scale)
    return bytes(out)


def _timescale(data: bytes, mdhd: int) -> int:
    at = mdhd + (24 if data[mdhd + 4] else 16)
    return int.from_bytes(data[at : at + 4], "big")


def _all(kind: bytes, data: bytes, begin: int, end: int) -> list[int]:
    """Where the boxes of type *kind* have it, between *begin* and *end*."""
    return [begin + found.start() for found in re.finditer(kind, data[begin:end])]
