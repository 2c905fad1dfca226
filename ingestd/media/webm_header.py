"""The init segment of WebM and Matroska: EBML head, Info and Tracks (RFC 9559, section 5.1)."""

from __future__ import annotations

from attrs import evolve, frozen

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    DOC_TYPE,
    DOC_TYPE_READ_VERSION,
    EBML_MAX_ID_LENGTH,
    EBML_MAX_SIZE_LENGTH,
    EBML_READ_VERSION,
    Element,
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


def parse_ebml_head(head: Element) -> str:
    """Return the DocType of an EBML head (RFC 8794, section 11.2), if it is one that we can read."""
    doc_type, limits = "matroska", {EBML_READ_VERSION: 1, DOC_TYPE_READ_VERSION: 4}
    for child in children(head):
        if child.id == DOC_TYPE:
            doc_type = read_string(child)
        elif child.id in limits and not 1 <= read_uint(child) <= limits[child.id]:
            raise MediaError(
                child.start, f"written for readers of version {read_uint(child)}, which this is not"
            )
        elif child.id == EBML_MAX_ID_LENGTH and read_uint(child) != 4:
            raise MediaError(child.start, f"EBMLMaxIDLength {read_uint(child)}: expected 4")
        elif child.id == EBML_MAX_SIZE_LENGTH and not 1 <= read_uint(child) <= 8:
            raise MediaError(child.start, f"EBMLMaxSizeLength {read_uint(child)}: expected 1 to 8")
    if doc_type not in ("webm", "matroska"):
        raise MediaError(head.start, f"DocType {doc_type[:40]!r}: expected webm or matroska")
    return doc_type


def parse_info(info: Element) -> int:
    """Return the TimestampScale in nanoseconds (RFC 9559, section 5.1.2.9; 1 ms if it is not given)."""
    scale = NS_PER_MS
    for child in children(info):
        if child.id == ids.TIMESTAMP_SCALE:
            scale = read_uint(child)
            if not 1 <= scale <= MAX_TIME:
                raise MediaError(child.start, f"TimestampScale {scale}: expected a positive number of ns")
    return scale


def parse_tracks(tracks: Element, max_tracks: int) -> list[TrackEntry]:
    """Return the declared tracks (RFC 9559, section 5.1.4), at most *max_tracks*, no number twice."""
    entries: list[TrackEntry] = []
    for child in children(tracks):
        if child.id != ids.TRACK_ENTRY:
            continue
        if len(entries) == max_tracks:
            raise MediaError(child.start, f"more than {max_tracks} tracks")
        entry = _parse_entry(child)
        if any(entry.number == other.number for other in entries):
            raise MediaError(child.start, f"track number {entry.number} is used twice")
        entries.append(entry)
    if not any(entry.track for entry in entries):
        raise MediaError(tracks.start, "no video or audio track")
    return entries


_PLAIN = (ids.TRACK_NUMBER, ids.TRACK_TYPE, ids.CODEC_DELAY, ids.SEEK_PRE_ROLL, ids.DEFAULT_DURATION)


def _parse_entry(entry: Element) -> TrackEntry:
    leaves: dict[int, Element] = {}  # video's and audio's own leaves, too: no id means two things
    numbers: dict[int, int] = {}
    stripped = b""
    for child in children(entry):
        if child.id in (ids.VIDEO, ids.AUDIO):
            leaves.update({leaf.id: leaf for leaf in children(child)})
        elif child.id == ids.CONTENT_ENCODINGS:
            stripped = _parse_encodings(child)
        elif child.id in _PLAIN:
            numbers[child.id] = read_uint(child)
            if numbers[child.id] > MAX_TIME:
                raise MediaError(child.start, f"element 0x{child.id:x} is out of range")
        else:
            leaves[child.id] = child

    def uint(element: int) -> int | None:
        return read_uint(leaves[element]) if element in leaves else None

    def binary(element: int) -> bytes:
        return bytes(leaves[element].body) if element in leaves else b""

    codec_id = read_string(leaves[ids.CODEC_ID]) if ids.CODEC_ID in leaves else ""
    number = numbers.get(ids.TRACK_NUMBER, 0)
    if not number:
        raise MediaError(entry.start, "a track without a number")
    if not codec_id:
        raise MediaError(entry.start, f"track {number} without a CodecID")
    kind = _KINDS.get(numbers.get(ids.TRACK_TYPE, 0))
    if kind is None:
        return TrackEntry(number, None)
    track = Track(
        number=number,
        kind=kind,
        codec=ids.codec_name(codec_id, uint(ids.BIT_DEPTH)),
        private=binary(ids.CODEC_PRIVATE),
        codec_delay=numbers.get(ids.CODEC_DELAY, 0),
        seek_preroll=numbers.get(ids.SEEK_PRE_ROLL, 0),
        default_duration=numbers.get(ids.DEFAULT_DURATION) or None,
    )
    if kind is Kind.VIDEO:
        width, height = uint(ids.PIXEL_WIDTH) or None, uint(ids.PIXEL_HEIGHT) or None
        track = evolve(track, width=width, height=height, colour=binary(ids.COLOUR))
        return TrackEntry(number, track, stripped)
    rate = leaves.get(ids.SAMPLING_FREQUENCY)
    sample_rate = round(read_float(rate) if rate else _DEFAULT_SAMPLE_RATE)
    channels = uint(ids.CHANNELS) or _DEFAULT_CHANNELS
    return TrackEntry(number, evolve(track, sample_rate=sample_rate, channels=channels), stripped)


def _parse_encodings(encodings: Element) -> bytes:
    """Return the stripped header bytes; encryption and real compression are refused (section 5.1.4.1.31)."""
    found = [child for child in children(encodings) if child.id == ids.CONTENT_ENCODING]
    stripped = b""
    for encoding in found:
        leaves = {child.id: child for child in children(encoding)}
        if ids.CONTENT_COMPRESSION in leaves:
            leaves |= {child.id: child for child in children(leaves[ids.CONTENT_COMPRESSION])}
        wanted = {ids.CONTENT_ENCODING_TYPE: 0, ids.CONTENT_ENCODING_SCOPE: 1, ids.CONTENT_COMP_ALGO: 0}
        kind, scope, algorithm = (
            read_uint(leaves[element]) if element in leaves else default
            for element, default in wanted.items()
        )
        if kind or scope != 1 or algorithm != _HEADER_STRIPPING or len(found) > 1:
            what = "encrypted" if kind else "compressed"
            raise MediaError(encoding.start, f"{what} frames: expected plain ones, or stripped headers")
        if ids.CONTENT_COMP_SETTINGS in leaves:
            stripped = bytes(leaves[ids.CONTENT_COMP_SETTINGS].body)
    return stripped
