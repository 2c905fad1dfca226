"""The MP4 muxer: round trips, fragments, durations, B-frames, codec configurations and their names."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import UnsupportedMedia
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Event, Frame, Header, Kind, SegmentStart, Track
from ingestd.media.mp4_demux import Mp4Demuxer
from ingestd.media.mp4_init import timescale_of
from ingestd.media.mp4_mux import Mp4Muxer
from ingestd.media.mp4_records import codec_string, mime
from tests.media.mp4_tools import MP4_CAPTURES, demux_mp4
from tests.media.tools import frames_of, header_of, plain
from tests.support.captures import Capture

AVCC = bytes.fromhex("0142c020ffe100126742c0208c8d402802dd37010d010784423501000468ce3c80")
OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"
COLOUR = b"\x55\xb1\x81\x01\x55\xb9\x81\x02\x55\xba\x81\x0d\x55\xbb\x81\x01"
VIDEO = Track(number=1, kind=Kind.VIDEO, codec="h264", private=AVCC, width=64, height=48, colour=COLOUR)
AUDIO = Track(
    number=2,
    kind=Kind.AUDIO,
    codec="opus",
    private=OPUS_HEAD,
    sample_rate=48000,
    channels=2,
    codec_delay=6_500_000,
    seek_preroll=80_000_000,
)
AAC = Track(number=2, kind=Kind.AUDIO, codec="aac", private=b"\x12\x10", sample_rate=44100, channels=2)
VP9 = Track(number=1, kind=Kind.VIDEO, codec="vp9", width=1280, height=720)
AV1 = Track(number=1, kind=Kind.VIDEO, codec="av1", private=b"\x81\x09\x0c\0", width=1280, height=720)


def video(ms: float, *, key: bool = False, payload: bytes = b"v") -> Frame:
    """A video frame."""
    return Frame(1, round(ms * NS_PER_MS), key, payload)


def audio(ms: float, payload: bytes = b"\x08") -> Frame:
    """An Opus packet of 20 ms."""
    return Frame(2, round(ms * NS_PER_MS), True, payload)


def back(muxer: Mp4Muxer, *portions: bytes) -> list[tuple[int, list[Frame]]]:
    """The time in ms and the frames, by track, of each fragment."""
    found: list[tuple[int, list[Frame]]] = []
    for event in plain(demux_mp4([muxer.header(), *portions])):
        if isinstance(event, SegmentStart):
            found.append((event.timestamp // NS_PER_MS, []))
        elif isinstance(event, Frame):
            found[-1][1].append(event)
    return found


def of_track(fragments: list[tuple[int, list[Frame]]], track: int) -> list[Frame]:
    """All frames of one track."""
    return [frame for _, frames in fragments for frame in frames if frame.track == track]


def comparable(events: list[Event]) -> list[Track]:
    """The tracks, but for VP9's configuration: Chromium leaves the level open, we do not."""
    return [evolve(t, private=b"") if t.codec == "vp9" else t for t in header_of(events).tracks]


@pytest.mark.parametrize("recorded", MP4_CAPTURES, ids=lambda recorded: recorded.name)
@pytest.mark.parametrize("piece", [3_000, 200_000, 10_000_000])
def test_what_is_muxed_is_demuxed(recorded: Capture, piece: int) -> None:
    """Tracks and frames come back as they went in: times, flags and bytes, muxed as they arrive."""
    for data in recorded.recorders():
        demuxer, events, out, muxer = Mp4Demuxer(), [], [], None
        for position in range(0, len(data), piece):
            portion = demuxer.feed(data[position : position + piece])
            events += portion
            if muxer is None and any(isinstance(event, Header) for event in portion):
                muxer = Mp4Muxer(header_of(portion).tracks)
                out.append(muxer.header())
            if muxer is not None:
                out.append(muxer.mux(frames_of(portion)))
        again = demux_mp4([b"".join(out)])
        assert comparable(again) == comparable(events)
        for track in header_of(events).tracks:
            before, after = (
                [
                    (frame.timestamp, frame.keyframe, frame.payload)
                    for frame in frames_of(plain(found))
                    if frame.track == track.number
                ]
                for found in (events, again)
            )
            assert after == before


@pytest.mark.parametrize("track", [VIDEO, AUDIO, AAC, AV1], ids=lambda track: track.codec)
def test_a_track_comes_back(track: Track) -> None:
    """The configuration of each codec survives the way to MP4 and back."""
    assert header_of(demux_mp4([Mp4Muxer([track]).header()])).tracks == (track,)


def test_vp9_gets_what_its_record_needs() -> None:
    """Profile, level by size, depth and subsampling, where WebM says nothing of them."""
    (track,) = header_of(demux_mp4([Mp4Muxer([VP9]).header()])).tracks
    assert track.private == bytes((1, 1, 0, 2, 1, 31, 3, 1, 8, 4, 1, 1))
    (again,) = header_of(demux_mp4([Mp4Muxer([track]).header()])).tracks
    assert again == track


def test_surround_opus_keeps_its_mapping() -> None:
    """A channel mapping table follows the fields."""
    head = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05"
    track = evolve(AUDIO, private=head, channels=6)
    assert header_of(demux_mp4([Mp4Muxer([track]).header()])).tracks == (track,)


frame_lists = st.lists(
    st.builds(
        Frame,
        st.sampled_from([1, 2]),
        st.integers(-20 * NS_PER_MS, 300_000 * NS_PER_MS) | st.integers(0, 2**62),
        st.booleans(),
        st.binary(min_size=1, max_size=8),
        st.none() | st.integers(0, 2**62),
    ),
    max_size=30,
)


@given(frame_lists, frame_lists)
@settings(deadline=None, max_examples=300)
def test_any_times_come_back_to_the_nearest_unit(first: list[Frame], second: list[Frame]) -> None:
    """Whatever the order, and across calls, each frame has its time; negative ones are counted."""
    muxer = Mp4Muxer([VIDEO, AUDIO])
    fragments = back(muxer, muxer.mux(first), muxer.mux(second))
    for track in (VIDEO, AUDIO):
        scale = timescale_of(track)
        given_ = [
            frame
            for frame in first + second
            if frame.track == track.number and round(Fraction(frame.timestamp * scale, NS_PER_S)) >= 0
        ]
        found = of_track(fragments, track.number)
        assert [frame.payload for frame in found] == [frame.payload for frame in given_]
        for before, after in zip(given_, found, strict=True):
            assert abs(after.timestamp - before.timestamp) <= Fraction(NS_PER_S, 2 * scale) + 1
    assert muxer.dropped == len(first + second) - sum(len(frames) for _, frames in fragments)


def test_a_fragment_begins_at_each_call_and_keyframe() -> None:
    """With the keyframe ahead of the sound of the same time."""
    muxer = Mp4Muxer([VIDEO, AUDIO])
    one = muxer.mux([video(0, key=True), video(40), audio(0), audio(20), audio(40)])
    two = muxer.mux([audio(60), video(80), audio(80), audio(100), video(100, key=True), video(120)])
    assert [(time, [frame.track for frame in frames]) for time, frames in back(muxer, one, two)] == [
        (0, [1, 2, 2, 1, 2]),
        (60, [2, 1, 2]),
        (100, [1, 2, 1]),
    ]
    assert muxer.mux([]) == b""


def test_a_hole_in_the_sound_begins_a_fragment() -> None:
    """A sample does not last over it: the player would take silence for sound."""
    muxer = Mp4Muxer([VIDEO, AUDIO])
    fragments = back(muxer, muxer.mux([audio(0), audio(20), audio(500), audio(520)]))
    assert [time for time, _ in fragments] == [0, 500]
    assert [frame.duration for frame in of_track(fragments, 2)] == [20 * NS_PER_MS] * 4


def test_durations() -> None:
    """Until the next frame of the call; at its end the frame's own, else the longest step of late."""
    muxer = Mp4Muxer([VIDEO, AAC])
    assert [
        (frame.duration or 0) // NS_PER_MS
        for frame in of_track(
            back(
                muxer,
                muxer.mux([video(0, key=True), video(40), video(140, key=True)]),
                muxer.mux([video(180), Frame(1, 220 * NS_PER_MS, False, b"v", 30 * NS_PER_MS)]),
            ),
            1,
        )
    ] == [40, 100, 242, 40, 30]


def test_frames_without_durations_leave_no_gap() -> None:
    """One frame a call, at a camera's uneven pace: no step is more than two durations of the one before."""
    muxer = Mp4Muxer([VIDEO, AUDIO])
    times = [0, 28, 95, 161, 228, 278, 314, 345, 400, 433, 500, 580, 590, 670]
    portions = [muxer.mux([video(time, key=not time)]) for time in times]
    frames = of_track(back(muxer, *portions), 1)
    for frame, after in pairwise(frames):
        assert after.timestamp - frame.timestamp <= 2 * (frame.duration or 0)


def decode_times(data: bytes) -> list[int]:
    """The decode time of each fragment's first sample, in its track's units."""
    return [
        int.from_bytes(data[at + 8 : at + 16], "big")
        for at in range(len(data))
        if data[at : at + 4] == b"tfdt"
    ]


def test_b_frames_have_decode_times_before_their_times() -> None:
    """In a call that has them all, decode times grow and lie at or before the times of showing."""
    muxer = Mp4Muxer([VIDEO])
    order = [0, 120, 40, 80, 240, 160, 200]
    frames = of_track(back(muxer, muxer.mux([video(time, key=not time) for time in order])), 1)
    assert [frame.timestamp // NS_PER_MS for frame in frames] == order
    # Without an own duration a sample lasts until the next one is decoded.
    decoded = [0]
    for frame in frames[:-1]:
        decoded.append(decoded[-1] + round((frame.duration or 0) / NS_PER_MS))
    assert decoded == [0, 20, 40, 80, 120, 160, 200]


def test_a_step_back_after_a_long_gap() -> None:
    """Decode times are not spread over hours, and no time is too far from its decode time to be written."""
    hours = 24 * 3600_000
    muxer = Mp4Muxer([VIDEO, AUDIO])
    fragments = back(muxer, muxer.mux([audio(0), audio(hours + 4000), audio(hours), audio(100)]))
    assert [frame.timestamp // NS_PER_MS for frame in of_track(fragments, 2)] == [0, hours + 4000, hours, 100]


def test_b_frames_that_come_one_by_one() -> None:
    """Decode times grow, and once it is known how far frames are reordered, lie before those of showing."""
    muxer = Mp4Muxer([VIDEO])
    order = [0, 120, 40, 80, 240, 160, 200, 360, 280, 320, 480, 400, 440]
    times = [decode_times(muxer.mux([video(time, key=not time)]))[0] / 90 for time in order]
    assert all(before < after for before, after in pairwise(times))
    assert all(decoded <= shown for decoded, shown in list(zip(times, order, strict=True))[4:])


@pytest.mark.parametrize(
    ("track", "name"),
    [
        (VIDEO, "avc1.42C020"),
        (evolve(VIDEO, private=b"\1\x42\xe0\x1e\xff\xe1\0"), "avc1.42E01E"),
        (AUDIO, "opus"),
        (AAC, "mp4a.40.2"),
        (evolve(AAC, private=b"\xf8\x40"), "mp4a.40.34"),
        (VP9, "vp09.00.31.08"),
        (evolve(VP9, width=256, height=144), "vp09.00.10.08"),
        (evolve(VP9, private=bytes((1, 1, 2, 2, 1, 41, 3, 1, 10))), "vp09.02.41.10"),
        (AV1, "av01.0.09M.08"),
        (evolve(AV1, private=b""), "av01.0.08M.08"),
        (evolve(AV1, private=b"\x81\x25\xc0\0"), "av01.1.05H.10"),
        (evolve(VP9, codec="vp8"), "vp8"),
    ],
)
def test_names_for_players(track: Track, name: str) -> None:
    """As RFC 6381 and the codecs' bindings say."""
    assert codec_string(track) == name


def test_types_for_players() -> None:
    """The container, with all tracks' codecs."""
    assert mime([VIDEO, AUDIO], "mp4") == 'video/mp4;codecs="avc1.42C020,opus"'
    assert mime([evolve(VP9, codec="vp8"), AUDIO], "webm") == 'video/webm;codecs="vp8,opus"'
    assert mime([AUDIO], "webm") == 'audio/webm;codecs="opus"'
    assert mime([VIDEO], "matroska") == 'video/x-matroska;codecs="avc1.42C020"'


@pytest.mark.parametrize(
    "track",
    [
        evolve(VIDEO, private=b""),
        evolve(VIDEO, width=None),
        evolve(VIDEO, codec="vp8"),
        evolve(AV1, private=b""),
        evolve(AUDIO, private=b"OpusHead"),
        evolve(AAC, private=b""),
    ],
    ids=[
        "Annex B",
        "no size",
        "VP8",
        "AV1 without av1C",
        "a short OpusHead",
        "AAC without its configuration",
    ],
)
def test_what_cannot_be_written_is_refused(track: Track) -> None:
    """With a word on the cause."""
    with pytest.raises(UnsupportedMedia, match="cannot be written"):
        Mp4Muxer([track])


def test_what_has_no_name_is_refused() -> None:
    """And a muxer needs tracks."""
    for track in (evolve(VIDEO, private=b""), evolve(AUDIO, codec="speex")):
        with pytest.raises(UnsupportedMedia, match="no name"):
            codec_string(track)
    with pytest.raises(ValueError, match="at least one track"):
        Mp4Muxer([])
