"""A movie fragment (ISO/IEC 14496-12, section 8.8): where its samples lie, and in what order they come."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, frozen

from ingestd.errors import MediaError
from ingestd.media.frames import Kind
from ingestd.media.mp4_boxes import Box, children, need, to_ns
from ingestd.media.mp4_header import TrackEntry

_BASE, _DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
_BASE_IS_MOOF = 0x020000
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
_SAMPLE_SIZES = 0x200
_SAMPLE_FIELDS = (0x100, _SAMPLE_SIZES, 0x400, 0x800)
_NO_SYNC = 0x01010000  # sample_is_non_sync_sample, or sample_depends_on others (section 8.8.3.1)
_MAX_TIME = 2**63 - 1


@frozen(slots=True)
class Sample:
    """One sample. *offset* counts from the fragment's anchor, *order* sorts by decode time across tracks.

    *timestamp* is the presentation time, and like *duration* in nanoseconds.
    """

    offset: int
    size: int
    track: int
    timestamp: int
    keyframe: bool
    duration: int | None
    order: tuple[int, int, int]


@define
class Fragment:
    """The samples of one moof in the order of their bytes.

    When ``samples[i]`` is complete, the samples ``releases[i]`` come out. *anchor* is the stream
    position from which sample offsets count; None: the first sample is the next mdat's first byte.
    """

    timestamp: int
    anchor: int | None
    samples: list[Sample]
    releases: list[list[int]]


@frozen(slots=True)
class _Run:
    """What trun inherits from tfhd and trex."""

    number: int
    entry: TrackEntry
    duration: int
    size: int
    flags: int


def parse_moof(moof: Box, entries: Mapping[int, TrackEntry], *, max_frame: int, max_samples: int) -> Fragment:
    """Return what *moof* declares.

    Raises `MediaError` for more than *max_samples* samples, one longer than *max_frame* bytes, bytes
    that belong to two samples, a track that moov has not, and a fragment without its decode time
    (as players do: W3C, ISO BMFF Byte Stream Format, section 4).
    """
    reader = _Reader(moof, entries, max_frame, max_samples)
    for traf in children(moof):
        if traf.type == b"traf":
            reader.read(traf)
    samples = sorted(reader.samples, key=lambda sample: sample.offset)
    # base_data_offset counts from the beginning of a file, of which a replay may lack any part. All
    # writers lay the data of such a fragment from the beginning of its mdat on.
    if reader.absolute and samples:
        lowest = samples[0].offset
        samples = [_moved(sample, -lowest) for sample in samples]
    end = samples[0].offset if samples else 0
    for sample in samples:
        if sample.offset < end:
            raise MediaError(moof.start, "two samples of a fragment lie in the same bytes")
        end = sample.offset + sample.size
    return Fragment(
        min(reader.begins, default=0),
        None if reader.absolute else moof.start,
        samples,
        plan(samples, max_frame),
    )


def plan(samples: Sequence[Sample], max_held: int) -> list[list[int]]:
    """Return for each sample, in the order of their bytes, which ones come out once it is complete.

    They come out by decode time, as far as that holds back no more than *max_held* bytes; browsers
    write all video of a fragment before all its audio. The answer depends on the fragment alone, so
    that frames come out alike however the bytes are cut into pieces.
    """
    waiting = sorted(range(len(samples)), key=lambda index: samples[index].order, reverse=True)
    held: set[int] = set()
    gone: set[int] = set()  # before their turn
    size = 0
    releases: list[list[int]] = []
    for index, sample in enumerate(samples):
        held.add(index)
        size += sample.size
        out: list[int] = []
        while waiting and (waiting[-1] in held or waiting[-1] in gone):
            if waiting[-1] in held:
                out.append(waiting[-1])
                held.remove(waiting[-1])
                size -= samples[waiting[-1]].size
            waiting.pop()
        if size > max_held:
            out += sorted(held, key=lambda index: samples[index].order)
            gone |= held
            held.clear()
            size = 0
        releases.append(out)
    return releases


def _moved(sample: Sample, by: int) -> Sample:
    return Sample(
        sample.offset + by,
        sample.size,
        sample.track,
        sample.timestamp,
        sample.keyframe,
        sample.duration,
        sample.order,
    )


class _Reader:
    """Reads the track fragments of one moof, in their order."""

    def __init__(
        self, moof: Box, entries: Mapping[int, TrackEntry], max_frame: int, max_samples: int
    ) -> None:
        self._moof = moof
        self._entries = entries
        self._max_frame = max_frame
        self._max_samples = max_samples
        self._count = 0
        self._end: int | None = None  # where the last track fragment's data ended
        self._newest: dict[int, int] = {}
        self.samples: list[Sample] = []
        self.begins: list[int] = []
        self.absolute: bool | None = None

    def read(self, traf: Box) -> None:
        tfhd = need(traf, b"tfhd")
        run, base = self._inherited(tfhd)
        tfdt = need(traf, b"tfdt")
        (time,) = tfdt.unpack("Q" if tfdt.full()[0] else "I", 4)
        if run.entry.track is not None:
            self.begins.append(to_ns(time + run.entry.shift, run.entry.timescale))
        position = base
        for trun in children(traf):
            if trun.type == b"trun":
                position, time = self._run(trun, run, base, position, time)
        self._end = position

    def _inherited(self, tfhd: Box) -> tuple[_Run, int]:
        """What tfhd (section 8.8.7) says for all runs, and where their data offsets count from."""
        _, flags = tfhd.full()
        (number,) = tfhd.unpack("I", 4)
        entry = self._entries.get(number)
        if entry is None:
            raise MediaError(tfhd.start, f"a fragment of track {number}, which moov does not have")
        at, fields = 8, {}
        for flag, layout, width in (
            (_BASE, "Q", 8),
            (_DESCRIPTION, "I", 4),
            (_DURATION, "I", 4),
            (_SIZE, "I", 4),
            (_FLAGS, "I", 4),
        ):
            if flags & flag:
                (fields[flag],) = tfhd.unpack(layout, at)
                at += width
        if fields.get(_DESCRIPTION, 1) > 1:
            raise MediaError(
                tfhd.start, f"track {number} changes to another sample entry: expected the first"
            )
        absolute = _BASE in fields
        if self.absolute not in (None, absolute):
            raise MediaError(tfhd.start, "track fragments of both kinds, with and without base_data_offset")
        self.absolute = absolute
        base = fields.get(_BASE, 0)
        if not absolute and not flags & _BASE_IS_MOOF and self._end is not None:
            base = self._end
        defaults = entry.defaults
        return (
            _Run(
                number,
                entry,
                fields.get(_DURATION, defaults.duration),
                fields.get(_SIZE, defaults.size),
                fields.get(_FLAGS, defaults.flags),
            ),
            base,
        )

    def _run(self, trun: Box, run: _Run, base: int, position: int, time: int) -> tuple[int, int]:
        """Take one run (section 8.8.8); return where its data and its time end."""
        _, flags = trun.full()
        (count,) = trun.unpack("I", 4)
        self._count += count
        if self._count > self._max_samples:
            raise MediaError(trun.start, f"a fragment of more than {self._max_samples} samples")
        at = 8
        if flags & _DATA_OFFSET:
            position = base + trun.unpack("i", at)[0]
            at += 4
        first = None
        if flags & _FIRST_FLAGS:
            (first,) = trun.unpack("I", at)
            at += 4
        track, timescale, shift = run.entry.track, run.entry.timescale, run.entry.shift
        if not flags & _SAMPLE_SIZES and (track is None or not run.size):
            # A few bytes may declare any number of samples of no interest.
            return position + count * run.size, time + count * run.duration
        for duration, size, sample_flags, composition in self._fields(trun, at, count, flags, run):
            if size > self._max_frame:
                raise MediaError(trun.start, f"a sample of {size} bytes: at most {self._max_frame} are taken")
            decode = to_ns(time + shift, timescale)
            if decode > _MAX_TIME:
                raise MediaError(trun.start, "a sample's time is out of range")
            if track is not None and size:
                audio = track.kind is Kind.AUDIO
                key = audio or not (sample_flags if first is None else first) & _NO_SYNC
                # A track's own order stands, whatever its times.
                decode = self._newest[run.number] = max(decode, self._newest.get(run.number, decode))
                self.samples.append(
                    Sample(
                        position,
                        size,
                        run.number,
                        to_ns(time + shift + composition, timescale),
                        key,
                        to_ns(duration, timescale) or None,
                        (decode, audio, len(self.samples)),
                    )
                )
            first = None
            position += size
            time += duration
        return position, time

    def _fields(
        self, trun: Box, at: int, count: int, flags: int, run: _Run
    ) -> Iterator[tuple[int, int, int, int]]:
        """Duration, size, flags and composition offset of each sample.

        Offsets are signed in version 0, too: an unsigned one with the highest bit set would be hours.
        """
        present = [bool(flags & flag) for flag in _SAMPLE_FIELDS]
        layout = struct.Struct(f">{sum(present[:3])}I{'i' * present[3]}")
        body = trun.body[at : at + count * layout.size]
        if len(body) < count * layout.size:
            raise MediaError(trun.start, f"a 'trun' box of {len(trun.body)} bytes is too short")
        defaults = (run.duration, run.size, run.flags, 0)
        if not layout.size:
            for _ in range(count):
                yield defaults
            return
        for row in layout.iter_unpack(body):
            values = iter(row)
            duration, size, sample_flags, composition = (
                next(values) if there else default for there, default in zip(present, defaults, strict=True)
            )
            yield duration, size, sample_flags, composition
