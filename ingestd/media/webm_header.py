"""The init segment of WebM and Matroska: EBML head, Info and Tracks (RFC 9559, section 5.1)."""

from __future__ import annotations

from attrs import frozen

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    DOC_TYPE,
    DOC_TYPE_READ_VERSION,
    EBML_MAX_ID_LENGTH,
    EBML_MAX_SIZE_LENGTH,
    EBML_READ_VERSION,
    children,
    read_float,
    read_string,
    read_uint,
)
from ingestd.media.frames import NS_PER_MS, Kind, Track

_KINDS = {1: Kind.VIDEO, 2: Kind.AUDIO}
_HEADER_STRIPPING = 3
_DEFAULT_SAMPLE_RATE, _DEFAULT_CHANNELS = 8000.0, 1  # RFC 9559, sections 5.1.4.1.29.1 and .3
MAX_TIME = (1 << 63) - 1
"""Times beyond what fits a signed 64-bit count of nanoseconds (292 years) are refused."""


@frozen(slots=True)
class TrackEntry:
    """A declared track: *track* is None for kinds we do not carry, whose blocks are passed over.

    *stripped* are the bytes that header stripping (RFC 9559, section 5.1.4.1.31.6) took off the
    front of each frame.
    """

    number: int
    track: Track | None
    stripped: bytes = b""


def parse_ebml_head(body: memoryview, offset: int) -> str:
    """Return the DocType of an EBML head (RFC 8794, section 11.2), if it is one that we can read."""
    doc_type, limits = "matroska", {EBML_READ_VERSION: 1, DOC_TYPE_READ_VERSION: 4}
    for element, at, value in children(body, offset):
        if element == DOC_TYPE:
            doc_type = read_string(value)
        elif element in limits and not 1 <= read_uint(value, at) <= limits[element]:
            raise MediaError(at, f"written for readers of version {read_uint(value, at)}, which this is not")
        elif element == EBML_MAX_ID_LENGTH and read_uint(value, at) != 4:
            raise MediaError(at, f"EBMLMaxIDLength {read_uint(value, at)}: expected 4")
        elif element == EBML_MAX_SIZE_LENGTH and not 1 <= read_uint(value, at) <= 8:
            raise MediaError(at, f"EBMLMaxSizeLength {read_uint(value, at)}: expected 1 to 8")
    if doc_type not in ("webm", "matroska"):
        raise MediaError(offset, f"DocType {doc_type[:40]!r}: expected webm or matroska")
    return doc_type


def parse_info(body: memoryview, offset: int) -> int:
    """Return the TimestampScale in nanoseconds (RFC 9559, section 5.1.2.9; 1 ms if it is not given)."""
    scale = NS_PER_MS
    for element, at, value in children(body, offset):
        if element == ids.TIMESTAMP_SCALE:
            scale = read_uint(value, at)
            if not 1 <= scale <= MAX_TIME:
                raise MediaError(at, f"TimestampScale {scale}: expected a positive number of nanoseconds")
    return scale


def parse_tracks(body: memoryview, offset: int, max_tracks: int) -> list[TrackEntry]:
    """Return the declared tracks (RFC 9559, section 5.1.4), at most *max_tracks*, no number twice."""
    entries: list[TrackEntry] = []
    for element, at, value in children(body, offset):
        if element != ids.TRACK_ENTRY:
            continue
        if len(entries) == max_tracks:
            raise MediaError(at, f"more than {max_tracks} tracks")
        entry = _parse_entry(value, at)
        if any(entry.number == other.number for other in entries):
            raise MediaError(at, f"track number {entry.number} is used twice")
        entries.append(entry)
    if not any(entry.track for entry in entries):
        raise MediaError(offset, "no video or audio track")
    return entries


def _parse_entry(body: memoryview, offset: int) -> TrackEntry:
    numbers: dict[int, int] = {}
    codec_id, private, stripped = "", b"", b""
    width: int | None = None
    height: int | None = None
    colour, bit_depth = b"", None
    rate, channels = _DEFAULT_SAMPLE_RATE, _DEFAULT_CHANNELS
    plain = (ids.TRACK_NUMBER, ids.TRACK_TYPE, ids.CODEC_DELAY, ids.SEEK_PRE_ROLL, ids.DEFAULT_DURATION)
    for element, at, value in children(body, offset):
        if element in plain:
            numbers[element] = read_uint(value, at)
            if numbers[element] > MAX_TIME:
                raise MediaError(at, f"element 0x{element:x} is out of range")
        elif element == ids.CODEC_ID:
            codec_id = read_string(value)
        elif element == ids.CODEC_PRIVATE:
            private = bytes(value)
        elif element == ids.CONTENT_ENCODINGS:
            stripped = _parse_encodings(value, at)
        elif element == ids.VIDEO:
            for child, child_at, child_value in children(value, at):
                if child == ids.PIXEL_WIDTH:
                    width = read_uint(child_value, child_at) or None
                elif child == ids.PIXEL_HEIGHT:
                    height = read_uint(child_value, child_at) or None
                elif child == ids.COLOUR:
                    colour = bytes(child_value)
        elif element == ids.AUDIO:
            for child, child_at, child_value in children(value, at):
                if child == ids.SAMPLING_FREQUENCY:
                    rate = read_float(child_value, child_at)
                elif child == ids.CHANNELS:
                    channels = read_uint(child_value, child_at)
                elif child == ids.BIT_DEPTH:
                    bit_depth = read_uint(child_value, child_at)
    number = numbers.get(ids.TRACK_NUMBER, 0)
    if not number:
        raise MediaError(offset, "a track without a number")
    if not codec_id:
        raise MediaError(offset, f"track {number} without a CodecID")
    kind = _KINDS.get(numbers.get(ids.TRACK_TYPE, 0))
    if kind is None:
        return TrackEntry(number, None)
    audio = kind is Kind.AUDIO
    track = Track(
        number=number,
        kind=kind,
        codec=ids.codec_name(codec_id, bit_depth),
        private=private,
        width=None if audio else width,
        height=None if audio else height,
        sample_rate=round(rate) if audio else None,
        channels=channels if audio else None,
        codec_delay=numbers.get(ids.CODEC_DELAY, 0),
        seek_preroll=numbers.get(ids.SEEK_PRE_ROLL, 0),
        default_duration=numbers.get(ids.DEFAULT_DURATION) or None,
        colour=colour,
    )
    return TrackEntry(number, track, stripped)


def _parse_encodings(body: memoryview, offset: int) -> bytes:
    """Return the stripped header bytes; encryption and real compression are refused (section 5.1.4.1.31)."""
    encodings = [
        (at, value) for element, at, value in children(body, offset) if element == ids.CONTENT_ENCODING
    ]
    stripped = b""
    for at, value in encodings:
        kind, scope, algorithm, settings = 0, 1, 0, b""
        for child, child_at, child_value in children(value, at):
            if child == ids.CONTENT_ENCODING_TYPE:
                kind = read_uint(child_value, child_at)
            elif child == ids.CONTENT_ENCODING_SCOPE:
                scope = read_uint(child_value, child_at)
            elif child == ids.CONTENT_COMPRESSION:
                for leaf, leaf_at, leaf_value in children(child_value, child_at):
                    if leaf == ids.CONTENT_COMP_ALGO:
                        algorithm = read_uint(leaf_value, leaf_at)
                    elif leaf == ids.CONTENT_COMP_SETTINGS:
                        settings = bytes(leaf_value)
        if kind or scope != 1 or algorithm != _HEADER_STRIPPING or len(encodings) > 1:
            what = "encrypted" if kind else "compressed"
            raise MediaError(at, f"{what} frames: expected plain ones, or stripped headers")
        stripped = settings
    return stripped
