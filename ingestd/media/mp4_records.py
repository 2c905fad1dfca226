"""Codec configuration from Matroska's shape to MP4's, and the codecs' names for players (RFC 6381)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ingestd.errors import UnsupportedMedia
from ingestd.media import colour
from ingestd.media.frames import Kind, Track
from ingestd.media.mp4_boxes import encode, encode_full

_VP9_LEVELS = (  # the largest picture of each level, in luma samples (VP9 levels, webmproject.org)
    (36_864, 10),
    (73_728, 11),
    (122_880, 20),
    (245_760, 21),
    (552_960, 30),
    (983_040, 31),
    (2_228_224, 40),
    (8_912_896, 50),
    (35_651_584, 60),
)
_PLAIN_NAMES = frozenset({"vp8", "opus", "vorbis", "flac"})
_DEFAULT_AV1 = b"\x81\x08\x0c\0"  # main profile, level 4.0, 8 bits, 4:2:0


def codec_string(track: Track) -> str:
    """Return the codec's name for a player (RFC 6381; for VP9 and AV1 as their ISO BMFF bindings say).

    What an absent configuration leaves open is taken as what browsers record: the main profile, 8
    bits, and the level of the picture's size. Raises `UnsupportedMedia` for a codec without a name
    here, and for H.264 or AAC without its configuration.
    """
    private = track.private
    if track.codec in _PLAIN_NAMES:
        return track.codec
    if track.codec == "h264" and len(private) >= 7:
        return f"avc1.{private[1:4].hex().upper()}"
    if track.codec == "aac" and len(private) >= 2:
        return f"mp4a.40.{_audio_object_type(private)}"
    if track.codec == "vp9":
        profile, level, depth, _ = _vp9_features(track)
        return f"vp09.{profile:02}.{level:02}.{depth:02}"
    if track.codec == "av1":
        _, profile_level, flags = (private if len(private) >= 4 else _DEFAULT_AV1)[:3]
        depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        tier = "H" if flags & 0x80 else "M"
        return f"av01.{profile_level >> 5}.{profile_level & 31:02}{tier}.{depth:02}"
    raise UnsupportedMedia(f"codec {track.codec!r}, as it is configured here, has no name for a player")


def mime(tracks: Sequence[Track], container: str) -> str:
    """Return the type of a stream of *tracks* for ``MediaSource.addSourceBuffer``.

    *container* is a Header's doc_type: ``mp4``, ``webm`` or ``matroska``.
    """
    kind = "video" if any(track.kind is Kind.VIDEO for track in tracks) else "audio"
    subtype = "x-matroska" if container == "matroska" else container
    return f'{kind}/{subtype};codecs="{",".join(codec_string(track) for track in tracks)}"'


def record_of(track: Track) -> bytes:
    """Return the box with the configuration of *track*; UnsupportedMedia if that cannot be made."""
    make = {"h264": _avcc, "av1": _av1c, "vp9": _vpcc, "opus": _dops, "aac": _esds}.get(track.codec)
    if make is None:
        raise UnsupportedMedia(f"codec {track.codec!r} cannot be written to MP4 for players")
    return make(track)


def colr_of(track: Track) -> bytes:
    """Return the colr box (ISO/IEC 14496-12, section 12.1.5) for Matroska's Colour; empty without one."""
    if not track.colour:
        return b""
    said = colour.parse(track.colour)
    fields = struct.pack(">HHHB", said.primaries, said.transfer, said.matrix, said.full << 7)
    return encode(b"colr", b"nclx", fields)


def _avcc(track: Track) -> bytes:
    if len(track.private) < 7:
        raise UnsupportedMedia("H.264 without its avcC record cannot be written to MP4: normalise it first")
    return encode(b"avcC", track.private)


def _av1c(track: Track) -> bytes:
    if len(track.private) < 4:
        raise UnsupportedMedia("AV1 without its av1C record cannot be written to MP4")
    return encode(b"av1C", track.private)


def _vpcc(track: Track) -> bytes:
    """VP9's record (VP Codec ISO Media File Format Binding, section "VP Codec Configuration Box")."""
    profile, level, depth, chroma = _vp9_features(track)
    said = colour.parse(track.colour)
    packed = depth << 4 | chroma << 1 | said.full
    values = (each & 255 for each in (said.primaries, said.transfer, said.matrix))
    return encode_full(b"vpcC", 1, 0, struct.pack(">6BH", profile, level, packed, *values, 0))


def _dops(track: Track) -> bytes:
    """OpusHead (RFC 7845, section 5.1) as dOps (Encapsulation of Opus in ISO BMFF, section 4.3.2)."""
    head = track.private
    if len(head) < 19 or not head.startswith(b"OpusHead"):
        raise UnsupportedMedia("Opus without its OpusHead cannot be written to MP4")
    channels, pre_skip, rate, gain, family = struct.unpack_from("<BHIhB", head, 9)
    return encode(b"dOps", struct.pack(">BBHIhB", 0, channels, pre_skip, rate, gain, family), head[19:])


def _esds(track: Track) -> bytes:
    """AudioSpecificConfig in an esds box (ISO/IEC 14496-14, section 6.7; 14496-1, section 7.2.6)."""
    if not 2 <= len(track.private) <= 100:
        raise UnsupportedMedia("AAC without its AudioSpecificConfig cannot be written to MP4")
    specific = _descriptor(5, track.private)
    decoder = _descriptor(4, b"\x40\x15" + bytes(11) + specific)  # AAC; an audio stream; rates unknown
    return encode_full(b"esds", 0, 0, _descriptor(3, bytes(3) + decoder + _descriptor(6, b"\2")))


def _descriptor(tag: int, body: bytes) -> bytes:
    return bytes((tag, 0x80 | len(body) >> 7, len(body) & 0x7F)) + body


def _audio_object_type(config: bytes) -> int:
    """AudioSpecificConfig's first field (ISO/IEC 14496-3, section 1.6.2.1)."""
    first = config[0] >> 3
    return first if first < 31 else 32 + ((config[0] & 7) << 3 | config[1] >> 5)


def _vp9_features(track: Track) -> tuple[int, int, int, int]:
    """Profile, level, bit depth and chroma subsampling, as far as WebM's codec features say them."""
    size = (track.width or 0) * (track.height or 0)
    level = next((level for samples, level in _VP9_LEVELS if size <= samples), 62)
    said = {key: value[0] for key, value in _features(track.private) if value}
    return said.get(1, 0), said.get(2) or level, said.get(3, 8), said.get(4, 1)


def _features(private: bytes) -> Iterator[tuple[int, bytes]]:
    """The codec features in WebM's CodecPrivate of VP9: id, length, value."""
    pos = 0
    while pos + 2 <= len(private):
        size = private[pos + 1]
        yield private[pos], private[pos + 2 : pos + 2 + size]
        pos += 2 + size
