"""The common currency of the live path: tracks, frames and what a demuxer reports.

Every demuxer yields these, every hub carries them, every muxer takes them. Times are integer
nanoseconds, because that is Matroska's own unit (RFC 9559, section 5.1.2.9) and loses nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from attrs import frozen

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

Payload: TypeAlias = bytes | memoryview


class Kind(StrEnum):
    """What a track carries."""

    VIDEO = "video"
    AUDIO = "audio"


@frozen(slots=True, kw_only=True)
class Track:
    """One elementary stream's codec configuration.

    *codec* is FFmpeg's short name (``vp8``, ``vp9``, ``av1``, ``h264``, ``opus``, ``aac`` …).
    *private* is the codec's configuration record as Matroska defines it for that codec (avcC for
    H.264, AudioSpecificConfig for AAC, OpusHead for Opus), empty when there is none.
    *codec_delay* and *seek_preroll* are in nanoseconds. *colour* is the body of Matroska's Colour
    element (RFC 9559, section 5.1.4.1.28.16), empty when nothing is known: browsers say there that
    what they record of a canvas is full range, and a decoder that is not told shows wrong colours.
    """

    number: int
    kind: Kind
    codec: str
    private: bytes = b""
    width: int | None = None
    height: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    codec_delay: int = 0
    seek_preroll: int = 0
    default_duration: int | None = None
    colour: bytes = b""


@frozen(slots=True)
class Frame:
    """One coded frame.

    *timestamp* is the presentation time in nanoseconds (Matroska's CodecDelay already subtracted,
    so that it equals the ``pts`` that ffprobe prints; it may be negative). *payload* is a view
    into the received bytes wherever a frame lies in one chunk. Frames come in decode order.
    """

    track: int
    timestamp: int
    keyframe: bool
    payload: Payload
    duration: int | None = None


@frozen(slots=True)
class RecorderStart:
    """A container begins at byte *offset* of what was fed: the first, or a new recorder's on the same stream.

    Reported as soon as it is certain, so that a journal can begin a new file exactly there: in WebM
    with the container's first byte, in MP4 with the last byte of its first box's head.
    """

    offset: int


@frozen(slots=True, kw_only=True)
class Header:
    """The init segment is complete: the codec configuration of all frames up to the next Header.

    Bytes ``[offset, offset + size)`` of the fed stream are the init segment: in WebM everything before
    the first Cluster, in MP4 up to the end of moov. *doc_type* is ``webm``, ``matroska`` or ``mp4``.
    """

    offset: int
    size: int
    doc_type: str
    tracks: tuple[Track, ...]


@frozen(slots=True)
class SegmentStart:
    """A media segment (Cluster, or moof) begins at byte *offset* of what was fed.

    Init segment plus the bytes from here on is a decodable container if the segment holds a
    random access point. *timestamp* in nanoseconds.
    """

    offset: int
    timestamp: int


Event: TypeAlias = RecorderStart | Header | SegmentStart | Frame
