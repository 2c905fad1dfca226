"""The muxer: round trips, clusters, rounding, seekable files, and going on with an earlier file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import UnsupportedMedia
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import EBML, Element, children, encode_id, read_float, read_head, read_uint
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Header, Kind, SegmentStart, Track
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import MAX_CLUSTER_MS, Muxer
from tests.media.tools import demux, frames_of, header_of, plain
from tests.support.captures import Capture, captures

VIDEO = Track(number=1, kind=Kind.VIDEO, codec="vp8", width=64, height=48, colour=b"\x55\xb9\x81\x02")
AUDIO = Track(
    number=2,
    kind=Kind.AUDIO,
    codec="opus",
    private=b"OpusHead",
    sample_rate=48000,
    channels=2,
    codec_delay=6_500_000,
    seek_preroll=80_000_000,
)
every_recorder = pytest.mark.parametrize("recorded", captures(), ids=lambda recorded: recorded.name)


def video(ms: float, *, key: bool = False, payload: bytes = b"v") -> Frame:
    """A video frame."""
    return Frame(1, round(ms * NS_PER_MS), key, payload)


def audio(ms: float, payload: bytes = b"a") -> Frame:
    """An audio frame, given by the time of its block."""
    return Frame(2, round(ms * NS_PER_MS) - AUDIO.codec_delay, True, payload)


def clusters(data: bytes) -> list[tuple[int, list[Frame]]]:
    """The time in ms and the frames of each cluster."""
    found: list[tuple[int, list[Frame]]] = []
    for event in plain(demux([data])):
        if isinstance(event, SegmentStart):
            found.append((event.timestamp // NS_PER_MS, []))
        elif isinstance(event, Frame):
            found[-1][1].append(event)
    return found


def patched(data: bytes, patches: Sequence[tuple[int, bytes]]) -> bytes:
    """*data* after the writes of `finish`."""
    out = bytearray(data)
    for offset, new in patches:
        assert offset <= len(out)
        out[offset : offset + len(new)] = new
    return bytes(out)


def segment_children(data: bytes) -> dict[int, Element]:
    """The last element of each id in the Segment of a finished file."""
    head = read_head(data, 0, len(data), 0)
    assert head is not None
    assert head[0] == EBML
    segment_at = head[1] + head[2]
    segment = read_head(data, segment_at, len(data), segment_at)
    assert segment is not None
    body_at = segment_at + segment[2]
    assert segment[1] == len(data) - body_at
    body = memoryview(data)[body_at:]
    return {child.id: child for child in children(Element(segment[0], segment_at, body_at, body))}


@every_recorder
@pytest.mark.parametrize("sizes", [{}, {"unknown_sizes": True}, {"open_clusters": True}], ids=" ".join)
def test_what_is_muxed_is_demuxed(recorded: Capture, sizes: dict[str, bool]) -> None:
    """Tracks and frames come back as they went in, muxed portion by portion as they arrive."""
    for data in recorded.recorders():
        demuxer, events, out, muxer = Demuxer(), [], [], None
        for position in range(0, len(data), 50_000):
            portion = demuxer.feed(data[position : position + 50_000])
            events += portion
            if muxer is None:
                muxer = Muxer(header_of(portion).tracks, **sizes)
                out.append(muxer.header())
            out.append(muxer.mux(frames_of(portion)))
        back = demux([b"".join(out)])
        assert header_of(back).tracks == header_of(events).tracks
        assert header_of(back).doc_type == header_of(events).doc_type
        for track in header_of(events).tracks:
            expected = [frame for frame in frames_of(plain(events)) if frame.track == track.number]
            assert [frame for frame in frames_of(plain(back)) if frame.track == track.number] == expected


frame_lists = st.lists(
    st.builds(
        Frame,
        st.sampled_from([1, 2]),
        st.integers(-20 * NS_PER_MS, 200_000 * NS_PER_MS),
        st.booleans(),
        st.binary(max_size=8),
    ),
    max_size=30,
)


@given(frame_lists, st.booleans(), st.sampled_from(["webm", "matroska"]))
@settings(deadline=None)
def test_any_times_are_written_to_the_nearest_millisecond(
    frames: list[Frame], unknown_sizes: bool, doc_type: str
) -> None:
    """Whatever the order, each frame comes back within half a millisecond; negative ones are counted."""
    muxer = Muxer([VIDEO, AUDIO], doc_type=doc_type, unknown_sizes=unknown_sizes)
    data = muxer.header() + muxer.mux(frames)
    delays = {1: 0, 2: AUDIO.codec_delay}
    kept = [frame for frame in frames if frame.timestamp + delays[frame.track] >= -NS_PER_MS // 2]
    assert muxer.dropped == len(frames) - len(kept)
    for number in (1, 2):
        back = [frame for frame in frames_of(plain(demux([data]))) if frame.track == number]
        expected = [frame for frame in kept if frame.track == number]
        assert [(f.keyframe, f.payload) for f in back] == [(f.keyframe, f.payload) for f in expected]
        for got, wanted in zip(back, expected, strict=True):
            assert abs(got.timestamp - wanted.timestamp) <= NS_PER_MS // 2
    for _, inside in clusters(data):
        times = [frame.timestamp + delays[frame.track] for frame in inside]
        assert times == sorted(times) or doc_type == "matroska"
        assert max(times) - times[0] < MAX_CLUSTER_MS * NS_PER_MS
        assert not any(frame.keyframe and frame.track == 1 for frame in inside[1:])


def test_an_open_cluster_goes_on_until_the_next_keyframe() -> None:
    """Over calls; one begins elsewhere where a time goes back, and where the caller wants one."""
    muxer = Muxer([VIDEO], open_clusters=True)

    def mux(*times: int, key: bool = False, begin: bool = False) -> bytes:
        return muxer.mux([Frame(1, at * NS_PER_MS, key, b"x") for at in times], begin=begin)

    calls = [mux(0, key=True), mux(40, 80), mux(), mux(120), mux(160, key=True), mux(200), mux(180), mux(240)]
    data = muxer.header() + b"".join([*calls, mux(280, begin=True), mux(320)])
    times = [[frame.timestamp // NS_PER_MS for frame in found] for _, found in clusters(data)]
    assert times == [[0, 40, 80, 120], [160, 200], [180, 240], [280, 320]]


def test_an_open_cluster_is_as_long_as_its_times_allow() -> None:
    """Its blocks' times have 16 bits, with a sign."""
    frames = [Frame(1, at * NS_PER_MS, at == 0, b"x") for at in (0, 29_999, 30_000, 60_000)]
    muxer = Muxer([VIDEO], open_clusters=True)
    data = muxer.header() + b"".join(muxer.mux([frame]) for frame in frames)
    assert [len(found) for _, found in clusters(data)] == [2, 1, 1]
    assert [frame.timestamp for frame in frames_of(plain(demux([data])))] == [f.timestamp for f in frames]


def test_rounding_does_not_add_up() -> None:
    """An hour of AAC at 44.1 kHz, muxed frame by frame, ends within half a millisecond of its time."""
    muxer = Muxer([VIDEO], doc_type="webm")
    last = 0
    for index in range(0, 3600 * 44100 // 1024, 97):
        timestamp = index * 1024 * 1_000_000_000 // 44100
        body = muxer.mux([Frame(1, timestamp, True, b"x")])
        (frame,) = frames_of(demux([muxer.header() + body]))
        assert abs(frame.timestamp - timestamp) <= NS_PER_MS // 2
        last = frame.timestamp
    assert last > 3590 * 1_000_000_000


def test_a_cluster_begins_where_a_player_can() -> None:
    """At each call, at each video keyframe, and after five seconds; audio alone begins none in between."""
    muxer = Muxer([VIDEO, AUDIO])
    data = muxer.header()
    data += muxer.mux([video(0, key=True), audio(10), video(33), video(66, key=True), audio(70)])
    data += muxer.mux([video(100), video(5099), video(5100), audio(5101)])
    assert [(time, len(frames)) for time, frames in clusters(data)] == [(0, 3), (66, 2), (100, 2), (5100, 2)]
    assert muxer.mux([]) == b""


def test_tracks_are_interleaved_by_time() -> None:
    """Inside one call frames are put in the order of time, so that no cluster is spent on a step back."""
    muxer = Muxer([VIDEO, AUDIO])
    data = muxer.header() + muxer.mux([video(0, key=True), video(40), video(80), audio(20), audio(60)])
    ((_, frames),) = clusters(data)
    assert [bytes(frame.payload) for frame in frames] == [b"v", b"a", b"v", b"a", b"v"]


def test_a_step_back_inside_a_track() -> None:
    """B-frames share Matroska's clusters; in WebM, where players refuse them, a new cluster begins."""
    frames = [video(0, key=True), video(120), video(40), video(80)]
    for doc_type, expected in (("matroska", [(0, 4)]), ("webm", [(0, 2), (40, 2)])):
        muxer = Muxer([VIDEO], doc_type=doc_type)
        found = clusters(muxer.header() + muxer.mux(frames))
        assert [(time, len(inside)) for time, inside in found] == expected


def test_the_doc_type_follows_the_codecs() -> None:
    """WebM for what WebM allows, else Matroska, unless it is given."""
    h264 = Track(number=1, kind=Kind.VIDEO, codec="h264")
    for tracks, doc_type, expected in (
        ([VIDEO, AUDIO], None, "webm"),
        ([h264, AUDIO], None, "matroska"),
        ([VIDEO], "matroska", "matroska"),
    ):
        muxer = Muxer(tracks, doc_type=doc_type)
        header = header_of(demux([muxer.header(), muxer.mux([video(0)])]))
        assert (header.doc_type, header.tracks) == (expected, tuple(tracks))


def test_what_cannot_be_written_is_refused() -> None:
    """A codec without a Matroska name, no track at all, and patches for a muxer that left no room."""
    with pytest.raises(UnsupportedMedia, match="'nellymoser'"):
        Muxer([Track(number=1, kind=Kind.AUDIO, codec="nellymoser")])
    with pytest.raises(ValueError, match="at least one track"):
        Muxer([])
    with pytest.raises(ValueError, match="seekable"):
        Muxer([VIDEO]).finish()


def written(muxer: Muxer, seconds: int, start: int = 0) -> bytes:
    """A recording with a keyframe each second."""
    return b"".join(
        muxer.mux(
            [video(1000 * at + ms, key=ms == 0) for ms in range(0, 1000, 200)] + [audio(1000 * at + 500)]
        )
        for at in range(start, seconds)
    )


def test_a_finished_file_says_where_things_are() -> None:
    """Segment size, Duration, SeekHead and Cues are right, and each intermediate state still plays."""
    muxer = Muxer([VIDEO, AUDIO], seekable=True)
    data = muxer.header() + written(muxer, 10)
    patches = muxer.finish()
    for count in range(len(patches)):
        assert frames_of(plain(demux([patched(data, patches[:count])]))) == frames_of(plain(demux([data])))
    done = patched(data, patches)
    parts = segment_children(done)
    body_at = parts[ids.SEEK_HEAD].start
    (duration,) = (read_float(child) for child in children(parts[ids.INFO]) if child.id == ids.DURATION)
    assert duration == 9800.0
    for seek in children(parts[ids.SEEK_HEAD]):
        target, position = children(seek)
        at = body_at + read_uint(position)
        assert done[at : at + 4] == bytes(target.body)
    keyframe_clusters = {
        event.offset: event.timestamp for event in demux([done]) if isinstance(event, SegmentStart)
    }
    cues = {}
    for point in children(parts[ids.CUES]):
        time, positions = children(point)
        leaves = {child.id: read_uint(child) for child in children(positions)}
        assert leaves[ids.CUE_TRACK] == 1
        cues[body_at + leaves[ids.CUE_CLUSTER_POSITION]] = read_uint(time) * NS_PER_MS
    assert cues == keyframe_clusters


def test_cues_are_bounded() -> None:
    """However long the recording, at most *max_cues* are kept, spread over all of it."""
    muxer = Muxer([VIDEO, AUDIO], seekable=True, max_cues=8)
    data = muxer.header() + written(muxer, 100)
    points = [*children(segment_children(patched(data, muxer.finish()))[ids.CUES])]
    times = [read_uint(next(children(point))) for point in points]
    assert times == [0, 16000, 32000, 48000, 64000, 80000, 96000]


def test_audio_alone_is_seekable_and_nothing_is_too() -> None:
    """Without video each cluster is a place to seek to; a recording without a frame has no Cues."""
    muxer = Muxer([AUDIO], seekable=True)
    data = muxer.header() + muxer.mux([audio(0)]) + muxer.mux([audio(20)])
    assert len([*children(segment_children(patched(data, muxer.finish()))[ids.CUES])]) == 2
    empty = Muxer([AUDIO], seekable=True)
    assert ids.CUES not in segment_children(patched(empty.header(), empty.finish()))


@pytest.mark.parametrize("start", [0, 2 * NS_PER_S])
def test_a_successor_goes_on_with_a_file(start: int) -> None:
    """After a crash the file is demuxed once, its broken end cut off, and the result equals no crash."""
    one = Muxer([VIDEO, AUDIO], seekable=True, start=start)
    whole = one.header() + written(one, 10)
    expected = patched(whole, one.finish())
    before = Muxer([VIDEO, AUDIO], seekable=True, start=start)
    first = before.header() + written(before, 6)
    broken = first + encode_id(ids.CLUSTER)[:3]
    demuxer, after = Demuxer(), Muxer([VIDEO, AUDIO], seekable=True, start=start)
    for position in range(0, len(broken), 100):
        after.recover(demuxer.feed(broken[position : position + 100]))
    demuxer.close()
    after.resume(len(broken) - demuxer.truncated)
    data = broken[: len(broken) - demuxer.truncated] + written(after, 10, start=6)
    assert data == whole
    assert patched(data, after.finish()) == expected


def test_a_successor_with_other_tracks_is_refused() -> None:
    """A file of other tracks cannot be gone on with: its header says other things."""
    with pytest.raises(ValueError, match="another header"):
        Muxer([VIDEO], seekable=True).recover([Header(offset=0, size=40, doc_type="webm", tracks=(VIDEO,))])


def test_a_shorter_file_than_written_has_no_cues_beyond_its_end(tmp_path: Path) -> None:
    """When the disk took less than was written, `finish` speaks of what is there."""
    muxer = Muxer([VIDEO, AUDIO], seekable=True)
    first = muxer.header() + written(muxer, 3)
    written(muxer, 6, start=3)
    done = patched(first, muxer.finish(len(first)))
    assert len([*children(segment_children(done)[ids.CUES])]) == 3
