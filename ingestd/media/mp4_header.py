"""The init segment of fragmented MP4: the moov box (ISO/IEC 14496-12, sections 8.2 to 8.6 and 8.8)."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from ingestd.errors import MediaError
from ingestd.media.frames import Kind, Track
from ingestd.media.mp4_boxes import Box, children, find, need
from ingestd.media.mp4_codecs import parse_sample_entry

_KINDS = {b"vide": Kind.VIDEO, b"soun": Kind.AUDIO}


@frozen(slots=True)
class Defaults:
    """What holds for samples of which a fragment says nothing (trex, section 8.8.3)."""

    duration: int
    size: int
    flags: int


@frozen(slots=True)
class TrackEntry:
    """A declared track; *track* is None for what is neither video nor audio.

    *shift* is to be added to a media time to get a presentation time, both in units of 1/*timescale* s.
    """

    track: Track | None
    timescale: int
    shift: int
    defaults: Defaults


def parse_moov(moov: Box, max_tracks: int) -> dict[int, TrackEntry]:
    """Return the tracks by track_ID, at most *max_tracks*.

    Raises `MediaError` for a movie that is not fragmented: one without mvex, or with samples of its own.
    """
    mvex = find(moov, b"mvex")
    if mvex is None:
        raise MediaError(
            moov.start, "not a fragmented MP4: its moov has no mvex, so all samples would be in one table"
        )
    defaults = {}
    for trex in children(mvex):
        if trex.type == b"trex":
            number, _, duration, size, flags = trex.unpack("5I", 4)
            defaults[number] = Defaults(duration, size, flags)
    movie_timescale = _timescale(need(moov, b"mvhd"))
    entries: dict[int, TrackEntry] = {}
    for trak in children(moov):
        if trak.type != b"trak":
            continue
        if len(entries) == max_tracks:
            raise MediaError(trak.start, f"more than {max_tracks} tracks")
        tkhd = need(trak, b"tkhd")
        (number,) = tkhd.unpack("I", 20 if tkhd.full()[0] else 12)
        if not number:
            raise MediaError(trak.start, "a track without a number")
        if number in entries:
            raise MediaError(trak.start, f"track number {number} is used twice")
        if number not in defaults:
            raise MediaError(trak.start, f"track {number} has no trex: it can have no fragments")
        entries[number] = _parse_trak(trak, number, movie_timescale, defaults[number])
    if not any(entry.track for entry in entries.values()):
        raise MediaError(moov.start, "no video or audio track")
    return entries


def _timescale(header: Box) -> int:
    """The timescale of mvhd or mdhd (sections 8.2.2 and 8.4.2)."""
    (timescale,) = header.unpack("I", 20 if header.full()[0] else 12)
    if not timescale:
        raise MediaError(header.start, f"a {header.name!r} box with timescale 0")
    return int(timescale)


def _parse_trak(trak: Box, number: int, movie_timescale: int, defaults: Defaults) -> TrackEntry:
    mdia = need(trak, b"mdia")
    timescale = _timescale(need(mdia, b"mdhd"))
    (handler,) = need(mdia, b"hdlr").unpack("4s", 8)
    kind = _KINDS.get(handler)
    shift = _shift(trak, movie_timescale, timescale)
    if kind is None:
        return TrackEntry(None, timescale, shift, defaults)
    stbl = need(mdia, b"minf", b"stbl")
    _refuse_samples(stbl)
    entry = next(children(need(stbl, b"stsd"), 8), None)
    if entry is None:
        raise MediaError(stbl.start, f"track {number} without a sample entry")
    track = parse_sample_entry(entry, number, kind, timescale)
    return TrackEntry(track, timescale, shift, defaults)


def _refuse_samples(stbl: Box) -> None:
    for table in children(stbl):
        if table.type in (b"stsz", b"stz2") and table.unpack("I", 8)[0]:
            raise MediaError(table.start, "not a fragmented MP4: its moov has samples of its own")


def _shift(trak: Box, movie_timescale: int, timescale: int) -> int:
    """What the edit list (section 8.6.6) adds to media times.

    As FFmpeg reads it in fragments: an empty edit at first delays, the next edit's media time is
    what is presented there; any further edits, which no live recorder has, are passed over.
    """
    elst = find(trak, b"edts", b"elst")
    if elst is None:
        return 0
    delay = begin = 0
    for index, (duration, media_time) in enumerate(_edits(elst)):
        if index == 0 and media_time == -1:
            delay = duration
        elif media_time >= 0:
            begin = media_time
            break
    return (2 * delay * timescale + movie_timescale) // (2 * movie_timescale) - begin


def _edits(elst: Box) -> Iterator[tuple[int, int]]:
    """Duration and media time of at most the first two edits."""
    (count,) = elst.unpack("I", 4)
    layout, step = ("Qq", 20) if elst.full()[0] else ("Ii", 12)
    for index in range(min(count, 2)):
        duration, media_time = elst.unpack(layout, 8 + index * step)
        yield duration, media_time
