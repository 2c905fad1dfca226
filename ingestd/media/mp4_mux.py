"""A muxer for live fragmented MP4 (ISO/IEC 14496-12, section 8.8): frames in, bytes out, no I/O.

It is what players need for H.264, which their Media Source takes in no other container.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from attrs import define

from ingestd.media import opus
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Kind, Payload, Track
from ingestd.media.mp4_boxes import encode, encode_full
from ingestd.media.mp4_init import init_segment, timescale_of

MAX_HOLE = 200 * NS_PER_MS
"""An audio frame that begins this much after the end of the one before begins a new fragment.

A sample lasts until the next one in its fragment. Players would take silence for sound otherwise.
"""

_MAX_BACK = 5 * NS_PER_S  # no B-frames reach back so far: another timeline begins
_MAX_DURATION = 60 * NS_PER_S
_SHORTEST_STEP, _LONGEST_STEP = 50 * NS_PER_MS, NS_PER_S // 2
_DEFAULT_STEP = {Kind.VIDEO: 250 * NS_PER_MS, Kind.AUDIO: 20 * NS_PER_MS}
_SYNC, _NO_SYNC = 0x02000000, 0x01010000  # depends on no others; depends on others and is no sync sample
_BASE_IS_MOOF = 0x020000
_TRUN_FLAGS, _TRUN_OFFSETS = 0x701, 0x800  # data offset, durations, sizes, flags; composition offsets
_MFHD, _TRAF_HEADS, _TRUN_HEAD = 16, 8 + 16 + 20, 20


@define
class _Sample:
    """A frame with its times in the track's units."""

    frame: Frame
    begin: int
    decode: int
    duration: int = 0
    cut: bool = False


class Mp4Muxer:
    """Write frames of *tracks* as one fragmented MP4.

    Raises `UnsupportedMedia` for a codec, or a configuration, that players take in no MP4: H.264
    (with avcC and length-prefixed NAL units, as `ingestd.media.normalise` leaves them), VP9, AV1, Opus
    and AAC can be written.

    Times are rounded to the track's units (an audio sample, 1/90000 s), each on its own, so that the
    error never adds up. A time below zero cannot be written: such frames are left out and counted in
    `dropped`. No edit list is written: a frame's time is its time for the player.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        if not tracks:
            raise ValueError("a muxer needs at least one track")
        self._header = init_segment(tracks)
        self._video = {track.number for track in tracks if track.kind is Kind.VIDEO}
        self._scale = {track.number: timescale_of(track) for track in tracks}
        self._opus = {track.number for track in tracks if track.codec == "opus"}
        self._step = {
            track.number: self._units(track.number, track.default_duration or _DEFAULT_STEP[track.kind])
            for track in tracks
        }
        self._delay = dict.fromkeys(self._scale, 0)  # by which decoding has to go ahead of showing
        self._decoded: dict[int, int] = {}  # the last decode time of each track
        self._sequence = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames left out because their time would lie before zero."""
        return self._dropped

    def header(self) -> bytes:
        """Return the init segment: ftyp and moov. The same each time."""
        return self._header

    def mux(self, frames: Iterable[Frame]) -> bytes:
        """Return *frames*, in decode order, as one or more whole fragments; nothing for no frames.

        Tracks may be interleaved anyhow: inside one call their frames are put in the order of time,
        without changing the order inside a track. A fragment begins at each call, at each video
        keyframe, and at a hole in the sound (`MAX_HOLE`). A sample lasts until the next one of its
        track in this call; the last one for its own duration, else as long as the longest step of late.

        A frame says when it is shown, not when it is decoded. A decode time is the earliest time of
        the frames to come in this call, spread so that it grows with each frame: for frames in the
        order of time both are equal. Where a call separates B-frames from what they refer to, they come
        too late; from the next call on decode times go ahead by as much as that was. Players cope with
        it, but FFmpeg shows the whole track later by that much.
        """
        tracks: dict[int, list[_Sample]] = {number: [] for number in self._scale}
        for frame in frames:
            begin = self._units(frame.track, frame.timestamp)
            if begin < 0:
                self._dropped += 1
                continue
            tracks[frame.track].append(_Sample(frame, begin, begin))
        out: list[Payload] = []
        fragment: dict[int, list[_Sample]] = {}
        for sample in self._in_order(tracks):
            video_key = sample.frame.keyframe and sample.frame.track in self._video
            if sample.cut or video_key:
                self._end_fragment(fragment, out)
                fragment = {}
            fragment.setdefault(sample.frame.track, []).append(sample)
        self._end_fragment(fragment, out)
        return b"".join(out)

    def _units(self, track: int, time: int) -> int:
        return (2 * time * self._scale[track] + NS_PER_S) // (2 * NS_PER_S)

    def _in_order(self, tracks: dict[int, list[_Sample]]) -> list[_Sample]:
        keyed: list[tuple[tuple[int, bool], _Sample]] = []
        for number, samples in tracks.items():
            last = self._decoded.get(number)
            self._set_decode_times(number, samples, last)
            self._set_durations(number, samples, last)
            newest = 0
            for sample in samples:
                newest = max(newest, sample.decode * NS_PER_S // self._scale[number])
                # A keyframe goes ahead of what is heard with it: its fragment begins with it.
                keyed.append(((newest, number not in self._video), sample))
        keyed.sort(key=lambda item: item[0])
        return [sample for _, sample in keyed]

    def _set_decode_times(self, number: int, samples: list[_Sample], last: int | None) -> None:
        """Give each sample the earliest time of it and those to come, then spread what is equal."""
        back = self._units(number, _MAX_BACK)
        runs: list[list[_Sample]] = []  # from the last to the first, of the same earliest time each
        later: _Sample | None = None
        for sample in reversed(samples):
            if later is not None and sample.begin - later.decode > back:
                later.cut = True
            elif later is not None:
                sample.decode = min(sample.begin, later.decode)
            if later is not None and sample.decode == later.decode:
                runs[-1].append(sample)
            else:
                runs.append([sample])
            later = sample
        delay = self._delay[number]
        for run in reversed(runs):
            run.reverse()
            time = run[0].decode - delay
            if last is not None and time < last - back:
                run[0].cut = True
            before = time - len(run) if last is None or run[0].cut else max(last, time - back)
            last = before
            for position, sample in enumerate(run, 1):
                spread = before + (time - before) * position // len(run)
                last = sample.decode = max(spread, last + 1, 0)
                self._delay[number] = max(self._delay[number], delay + last - sample.begin)
            self._decoded[number] = last

    def _set_durations(self, number: int, samples: list[_Sample], last: int | None) -> None:
        """Give each sample its duration; *last* is the decode time of the one before this call's."""
        hole = self._units(number, _MAX_DURATION if number in self._video else MAX_HOLE)
        for sample, following in zip(samples, (*samples[1:], None), strict=False):
            if last is not None:
                self._learn(number, sample.decode - last)
            last = sample.decode
            sample.duration = self._own_duration(sample.frame)
            # A frame is shown for so long, which says little of decode times that had to be made up.
            if not sample.duration or self._delay[number]:
                sample.duration = max(sample.duration, self._step[number])
            if following is None:
                break
            between = following.decode - sample.decode
            if between > sample.duration + hole:
                following.cut = True
            if not following.cut:
                sample.duration = between

    def _learn(self, number: int, step: int) -> None:
        """Take note of a step, for frames that do not say how long they last.

        Players take a step of more than two durations for a seek, and drop all frames up to the next
        keyframe (W3C, Media Source Extensions, section 3.5.8). Cameras' steps vary: the longest of late
        is the safe guess, and too long a duration does no harm.
        """
        if number not in self._video:
            self._step[number] = step if 0 < step < self._units(number, MAX_HOLE) else self._step[number]
            return
        low, high = self._units(number, _SHORTEST_STEP), self._units(number, _LONGEST_STEP)
        self._step[number] = max(low, min(step, high), self._step[number] * 63 // 64)

    def _own_duration(self, frame: Frame) -> int:
        """How long *frame* itself says that it lasts, in the track's units; 0 if it does not."""
        duration = frame.duration or 0
        if frame.track in self._opus:
            duration = opus.duration(frame.payload) or duration
        return self._units(frame.track, min(duration, _MAX_DURATION))

    def _end_fragment(self, tracks: dict[int, list[_Sample]], out: list[Payload]) -> None:
        if not tracks:
            return
        self._sequence += 1
        offsets = {
            number: any(sample.begin != sample.decode for sample in samples)
            for number, samples in tracks.items()
        }
        size = (
            8
            + _MFHD
            + sum(
                _TRAF_HEADS + _TRUN_HEAD + len(samples) * (16 if offsets[number] else 12)
                for number, samples in tracks.items()
            )
        )
        at = size + 8
        trafs = []
        payloads = []
        for number, samples in tracks.items():
            trafs.append(_traf(number, samples, at, offsets[number]))
            for sample in samples:
                payloads.append(sample.frame.payload)
                at += len(sample.frame.payload)
        moof = encode(
            b"moof", encode_full(b"mfhd", 0, 0, struct.pack(">I", self._sequence & 0xFFFFFFFF)), *trafs
        )
        assert len(moof) == size  # noqa: S101  data offsets count from here
        out += (moof, (at - size).to_bytes(4, "big"), b"mdat", *payloads)


def _traf(number: int, samples: list[_Sample], at: int, offsets: bool) -> bytes:
    """A track fragment (section 8.8.6) whose data begins *at* bytes after the beginning of its moof."""
    layout = struct.Struct(">IIIi" if offsets else ">III")
    rows = (
        (sample.duration, len(sample.frame.payload), _SYNC if sample.frame.keyframe else _NO_SYNC)
        + ((sample.begin - sample.decode,) if offsets else ())
        for sample in samples
    )
    return encode(
        b"traf",
        encode_full(b"tfhd", 0, _BASE_IS_MOOF, struct.pack(">I", number)),
        encode_full(b"tfdt", 1, 0, struct.pack(">Q", samples[0].decode)),
        encode_full(
            b"trun",
            int(offsets),
            _TRUN_FLAGS | (_TRUN_OFFSETS if offsets else 0),
            struct.pack(">II", len(samples), at),
            *(layout.pack(*row) for row in rows),
        ),
    )
