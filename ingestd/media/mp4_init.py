"""Writing the init segment of fragmented MP4: ftyp and moov (ISO/IEC 14496-12, sections 4.3, 8.2 to 8.8)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ingestd.errors import UnsupportedMedia
from ingestd.media.frames import Kind, Track
from ingestd.media.mp4_boxes import encode, encode_full
from ingestd.media.mp4_records import colr_of, record_of

VIDEO_TIMESCALE = 90_000
"""Video's times are in units of 1/90000 s, which holds what cameras, browsers and MPEG-TS count in."""

_DEFAULT_RATE = 48_000
_ENTRIES = {"h264": b"avc1", "vp9": b"vp09", "av1": b"av01", "opus": b"Opus", "aac": b"mp4a"}
_MATRIX = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_UNDETERMINED = 0x55C4  # the language "und", five bits a letter
# Decode times came with iso6, offsets that count from the moof with iso5, signed ones with iso4.
_FTYP = encode(b"ftyp", b"iso6\0\0\0\0iso6mp41")


def timescale_of(track: Track) -> int:
    """The units of the track's times, a second: an audio sample, or `VIDEO_TIMESCALE`."""
    return VIDEO_TIMESCALE if track.kind is Kind.VIDEO else track.sample_rate or _DEFAULT_RATE


def init_segment(tracks: Sequence[Track]) -> bytes:
    """Return ftyp and moov; UnsupportedMedia for a track that MP4 cannot describe to players."""
    newest = max(track.number for track in tracks)
    mvhd = struct.pack(">8xIIIH10x36s24xI", 1000, 0, 1 << 16, 1 << 8, _MATRIX, newest + 1)
    trex = (encode_full(b"trex", 0, 0, struct.pack(">I4I", track.number, 1, 0, 0, 0)) for track in tracks)
    return _FTYP + encode(
        b"moov",
        encode_full(b"mvhd", 0, 0, mvhd),
        *(_trak(track) for track in tracks),
        encode(b"mvex", *trex),
    )


def _trak(track: Track) -> bytes:
    video = track.kind is Kind.VIDEO
    tkhd = struct.pack(
        ">8xI20xH2x36sII",
        track.number,
        0 if video else 1 << 8,
        _MATRIX,
        (track.width or 0) << 16,
        (track.height or 0) << 16,
    )
    handler = b"vide" if video else b"soun"
    reference = encode_full(b"dref", 0, 0, b"\0\0\0\1", encode_full(b"url ", 0, 1))
    return encode(
        b"trak",
        encode_full(b"tkhd", 0, 3, tkhd),  # enabled, and in the presentation
        encode(
            b"mdia",
            encode_full(b"mdhd", 0, 0, struct.pack(">8xI4xH2x", timescale_of(track), _UNDETERMINED)),
            encode_full(b"hdlr", 0, 0, struct.pack(">4x4s12x", handler), b"\0"),
            encode(
                b"minf",
                encode_full(b"vmhd", 0, 1, bytes(8)) if video else encode_full(b"smhd", 0, 0, bytes(4)),
                encode(b"dinf", reference),
                encode(
                    b"stbl",
                    encode_full(b"stsd", 0, 0, b"\0\0\0\1", _sample_entry(track)),
                    encode_full(b"stts", 0, 0, bytes(4)),
                    encode_full(b"stsc", 0, 0, bytes(4)),
                    encode_full(b"stsz", 0, 0, bytes(8)),
                    encode_full(b"stco", 0, 0, bytes(4)),
                ),
            ),
        ),
    )


def _sample_entry(track: Track) -> bytes:
    """The sample entry (section 12.1.3 for video, 12.2.3 for audio) with the codec's configuration."""
    record = record_of(track)
    kind = _ENTRIES[track.codec]
    if track.kind is Kind.AUDIO:
        rate = timescale_of(track)
        fields = struct.pack(">6xH8xHH4xI", 1, track.channels or 2, 16, rate << 16 if rate < 1 << 16 else 0)
        return encode(kind, fields, record)
    width, height = track.width or 0, track.height or 0
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
        raise UnsupportedMedia(f"track {track.number}: video without its size cannot be written to MP4")
    fields = struct.pack(
        ">6xH16xHHII4xH32xHh", 1, width, height, 72 << 16, 72 << 16, 1, 24, -1
    )  # 72 dpi, one frame a sample, 24 bits, no colour table: what all writers say
    return encode(kind, fields, record, colr_of(track))
