"""MP4's sample entries (ISO/IEC 14496-12, section 12) as tracks, their configuration in Matroska's shape.

The records of H.264, HEVC and AV1 are the same in both containers. Opus, VP9, AAC and colours are
written differently, and translated here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from attrs import evolve

from ingestd.errors import MediaError
from ingestd.media.colour import Colour
from ingestd.media.frames import NS_PER_S, Kind, Track
from ingestd.media.mp4_boxes import Box, children

_VIDEO_FIELDS, _AUDIO_FIELDS = 78, 28
_QUICKTIME_EXTRA = {0: 0, 1: 16, 2: 36}
_CODECS = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"av01": "av1",
    b"Opus": "opus",
    b"fLaC": "flac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b".mp3": "mp3",
}
_RECORDS = {
    "h264": b"avcC",
    "hevc": b"hvcC",
    "av1": b"av1C",
    "vp9": b"vpcC",
    "opus": b"dOps",
    "flac": b"dfLa",
    "alac": b"alac",
}
_OBJECT_TYPES = {0x40: "aac", 0x66: "aac", 0x67: "aac", 0x68: "aac", 0x69: "mp3", 0x6B: "mp3"}
_OPUS_RATE = 48_000
_OPUS_PREROLL = 80_000_000


def parse_sample_entry(entry: Box, number: int, kind: Kind, timescale: int) -> Track:
    """Return the track that *entry*, the first of stsd, describes.

    A type not known here becomes the codec's name, in lower case. Raises `MediaError` for encrypted
    media, and for a codec whose configuration record is missing or malformed.
    """
    if entry.type in (b"encv", b"enca"):
        raise MediaError(entry.start, "encrypted frames are not taken")
    track = Track(number=number, kind=kind, codec=_CODECS.get(entry.type, entry.name.strip().lower()))
    if kind is Kind.VIDEO:
        width, height = entry.unpack("HH", 24)
        track = evolve(track, width=width or None, height=height or None)
        fields = _VIDEO_FIELDS
    else:
        version, channels, rate = entry.unpack("8xH6xH6xI")
        rate >>= 16  # 16.16 fixed point; higher rates do not fit, and the timescale is then the rate
        track = evolve(track, sample_rate=rate or timescale, channels=channels or None)
        fields = _AUDIO_FIELDS + _QUICKTIME_EXTRA.get(version, 0)
    boxes = {child.type: child for child in children(entry, fields)}
    if b"colr" in boxes:
        track = evolve(track, colour=_colour(boxes[b"colr"]))
    if entry.type == b"mp4a":
        if b"wave" in boxes:  # QuickTime's place for it
            boxes |= {child.type: child for child in children(boxes[b"wave"])}
        return _parse_esds(_record(entry, boxes, b"esds"), track)
    if track.codec in _RECORDS:
        record = _record(entry, boxes, _RECORDS[track.codec])
        if track.codec == "opus":
            return _parse_dops(record, track)
        return evolve(track, private=_PRIVATE.get(track.codec, _as_it_is)(record))
    return track


def _record(entry: Box, boxes: dict[bytes, Box], kind: bytes) -> Box:
    if kind not in boxes:
        raise MediaError(entry.start, f"{entry.name!r} without its {kind.decode()!r}")
    record = boxes[kind]
    if kind in (b"avcC", b"hvcC") and len(record.body) < 7:
        raise MediaError(record.start, f"a {record.name!r} box of {len(record.body)} bytes is too short")
    return record


def _parse_dops(dops: Box, track: Track) -> Track:
    """Opus's dOps (Encapsulation of Opus in ISO BMFF, section 4.3.2) as OpusHead (RFC 7845, section 5.1)."""
    version, channels, pre_skip, rate, gain, family = dops.unpack("BBHIhB")
    if version:
        raise MediaError(dops.start, f"'dOps' of version {version}: expected 0")
    mapping = bytes(dops.body[11 : 11 + 2 + channels]) if family else b""
    if family and len(mapping) < 2 + channels:
        raise MediaError(dops.start, "a 'dOps' box is too short for its channel mapping")
    private = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, pre_skip, rate, gain, family) + mapping
    return evolve(
        track,
        private=private,
        channels=channels or None,
        sample_rate=_OPUS_RATE,
        codec_delay=(2 * pre_skip * NS_PER_S + _OPUS_RATE) // (2 * _OPUS_RATE),
        seek_preroll=_OPUS_PREROLL,
    )


def _vp9_features(vpcc: Box) -> bytes:
    """VP9's profile, level, depth and subsampling in vpcC as WebM's codec features (its CodecPrivate)."""
    version, profile, level, packed = vpcc.unpack("B3xBBB")
    if version != 1:
        raise MediaError(vpcc.start, f"'vpcC' of version {version}: expected 1")
    features = ((1, profile), (2, level), (3, packed >> 4), (4, packed >> 1 & 7))
    return b"".join(bytes((key, 1, value)) for key, value in features if value or key != 2)


def _as_it_is(record: Box) -> bytes:
    return bytes(record.body)


_PRIVATE: dict[str, Callable[[Box], bytes]] = {
    "vp9": _vp9_features,
    "flac": lambda record: b"fLaC" + bytes(record.body[4:]),
    "alac": lambda record: bytes(record.body[4:]),
}


def _colour(colr: Box) -> bytes:
    """An nclx colour (section 12.1.5) as the body of Matroska's Colour; empty for ICC profiles."""
    if bytes(colr.body[:4]) not in (b"nclx", b"nclc"):
        return b""
    primaries, transfer, matrix = colr.unpack("HHH", 4)
    return Colour(primaries, transfer, matrix, full=len(colr.body) > 10 and bool(colr.body[10] >> 7)).encode()


def _parse_esds(esds: Box, track: Track) -> Track:
    """The decoder's configuration in an esds box (ISO/IEC 14496-14, section 6.7; 14496-1, section 7.2.6)."""
    _, body = _descriptor(esds, 4, 3)
    at = body + 3
    (flags,) = esds.unpack("B", body + 2)
    at += 2 if flags & 0x80 else 0
    if flags & 0x40:
        at += 1 + esds.unpack("B", at)[0]
    at += 2 if flags & 0x20 else 0
    end, body = _descriptor(esds, at, 4)
    (object_type,) = esds.unpack("B", body)
    if object_type not in _OBJECT_TYPES:
        raise MediaError(esds.start, f"audio of object type 0x{object_type:02x}: expected AAC or MP3")
    codec = _OBJECT_TYPES[object_type]
    if codec != "aac":
        return evolve(track, codec=codec)
    end, body = _descriptor(esds, body + 13, 5)
    if end - body < 2:
        raise MediaError(esds.start, "AAC without its AudioSpecificConfig")
    return evolve(track, codec=codec, private=bytes(esds.body[body:end]))


def _descriptor(esds: Box, at: int, wanted: int) -> tuple[int, int]:
    """Where the descriptor with tag *wanted* at byte *at* ends, and where its body begins."""
    (tag,) = esds.unpack("B", at)
    if tag != wanted:
        raise MediaError(esds.start, f"an 'esds' box with descriptor {tag}: expected {wanted}")
    size, at = 0, at + 1
    for _ in range(4):
        (byte,) = esds.unpack("B", at)
        size, at = size << 7 | byte & 0x7F, at + 1
        if byte < 0x80:
            break
    if at + size > len(esds.body):
        raise MediaError(esds.start, "a descriptor reaches beyond its 'esds' box")
    return at + size, at
