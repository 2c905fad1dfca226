"""The demuxer on what browsers really send: whatever the boundaries, ffprobe's frames."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.media.frames import Frame, Header, Kind, RecorderStart, SegmentStart
from ingestd.media.webm_demux import Demuxer
from tests.media.tools import demux, ffprobe_packets, frames_of, header_of, packets_of, plain
from tests.support.captures import Capture, capture, captures

every_capture = pytest.mark.parametrize("recorded", captures(), ids=lambda recorded: recorded.name)


@every_capture
def test_frames_are_ffprobes(recorded: Capture, tmp_path: Path) -> None:
    """Track, time, keyframe flag and size of each frame equal ffprobe's list, recorder by recorder."""
    for number, data in enumerate(recorded.recorders()):
        path = tmp_path / f"{number}.mkv"
        path.write_bytes(data)
        assert packets_of(demux([data])) == ffprobe_packets(path)


@every_capture
def test_the_browsers_chunks_give_the_same_events(recorded: Capture) -> None:
    """Fed chunk by chunk, as they were received, the events are those of the whole file."""
    assert plain(demux(recorded.chunks())) == plain(demux([recorded.data()]))


@every_capture
def test_single_bytes_give_the_same_events(recorded: Capture) -> None:
    """Fed one byte at a time, the events are the same, and what is held back is one element at most."""
    data = recorded.data()[:400_000]
    expected = plain(demux([data]))
    longest = max(len(frame.payload) for frame in frames_of(expected)) + 4
    demuxer, events = Demuxer(), []
    for position in range(len(data)):
        events += demuxer.feed(data[position : position + 1])
        assert demuxer.pending <= longest or position > len(data) - 2 * longest
    assert plain(events) == expected


@given(
    recorded=st.sampled_from(captures()),
    cuts=st.lists(st.floats(0, 1), max_size=60),
    near=st.integers(-3, 3),
)
@settings(max_examples=150, deadline=None)
def test_random_splits_give_the_same_events(recorded: Capture, cuts: list[float], near: int) -> None:
    """Split anywhere, also within a few bytes of cluster beginnings, the events are the same."""
    data = recorded.data()[:700_000]
    whole = demux([data])
    starts = [event.offset for event in whole if isinstance(event, SegmentStart)]
    edges = {min(max(start + near, 0), len(data)) for start in starts[:: max(1, len(starts) // 8)]}
    edges |= {int(cut * len(data)) for cut in cuts} | {0, len(data)}
    order = sorted(edges)
    pieces = [data[begin:end] for begin, end in pairwise(order)]
    assert plain(demux(pieces)) == plain(whole)


@every_capture
def test_the_header_is_the_init_segment(recorded: Capture) -> None:
    """The Header spans what lies before the first cluster, and its tracks say what was recorded."""
    events = demux([recorded.data()])
    header = header_of(events)
    first = next(event for event in events if isinstance(event, SegmentStart))
    assert (header.offset, header.size) == (0, first.offset)
    assert header.doc_type == ("webm" if "/webm" in recorded.mime else "matroska")
    codecs = recorded.mime.rpartition("codecs=")[2].replace("avc1", "h264").replace("av01", "av1")
    assert {track.codec for track in header.tracks} == set(codecs.split(","))
    for track in header.tracks:
        expected = (1280, 720, None) if track.kind is Kind.VIDEO else (None, None, 48000)
        if "gum" not in recorded.name or track.kind is Kind.AUDIO:
            assert (track.width, track.height, track.sample_rate) == expected


@every_capture
def test_events_come_in_order(recorded: Capture) -> None:
    """A recorder's start, its header, a cluster's start, the cluster's frames: each before the next."""
    expected_after = {
        RecorderStart: {Header},
        Header: {SegmentStart},
        SegmentStart: {SegmentStart, Frame, RecorderStart},
        Frame: {Frame, SegmentStart, RecorderStart},
    }
    events = demux([recorded.data()])
    assert isinstance(events[0], RecorderStart)
    for event, after in pairwise(events):
        assert type(after) in expected_after[type(event)]


@every_capture
def test_a_replay_from_a_later_cluster_gives_the_same_frames(recorded: Capture) -> None:
    """The init segment and then the bytes from any cluster on give the frames from that cluster on."""
    data = recorded.recorders()[0]
    whole = plain(demux([data]))
    init = data[: header_of(whole).size]
    starts = [index for index, event in enumerate(whole) if isinstance(event, SegmentStart)]
    for index in starts[1 :: max(1, len(starts) // 6)]:
        position = whole[index].offset
        replayed = plain(demux([init, data[position:]]))
        assert frames_of(replayed) == frames_of(whole[index:])
        assert header_of(replayed) == header_of(whole)


@pytest.mark.parametrize(
    "recorded", [found for found in captures() if "restart" in found.name], ids=lambda recorded: recorded.name
)
def test_a_second_recorder_begins_at_its_first_chunk(recorded: Capture) -> None:
    """A new EBML head is a new recorder, at the very chunk boundary where the browser began it."""
    first, second = recorded.recorders()
    events = demux(recorded.chunks())
    starts = [event.offset for event in events if isinstance(event, RecorderStart)]
    assert starts == [0, len(first)]
    headers = [event for event in events if isinstance(event, Header)]
    assert [header.offset for header in headers] == starts
    split = events.index(RecorderStart(len(first)))
    assert frames_of(plain(events[split:])) == frames_of(plain(demux([second])))


def test_a_new_recorder_is_told_at_its_first_byte() -> None:
    """One byte, 0x1A, is enough to say that a container begins: a journal can start its file there."""
    demuxer = Demuxer()
    first = capture("cv-vp8-restart.webm").recorders()[0]
    assert demuxer.feed(b"\x1a") == [RecorderStart(0)]
    demuxer.feed(first[1:])
    assert demuxer.feed(b"\x1a") == [RecorderStart(len(first))]


def test_a_frame_inside_one_chunk_is_not_copied() -> None:
    """Payloads view the fed bytes, but for frames that straddle two chunks."""
    recorded = capture("cv-vp8-250.webm")
    demuxer, copied, total = Demuxer(), 0, 0
    for chunk in recorded.chunks():
        for frame in frames_of(demuxer.feed(chunk)):
            assert isinstance(frame.payload, memoryview)
            copied += frame.payload.obj is not chunk
            total += 1
    assert copied == 0 < total


def test_frames_do_not_change_with_the_callers_buffer() -> None:
    """A mutable buffer may be reused after feed: its frames are copies."""
    data = bytearray(capture("gum-audio-250.webm").data()[:20_000])
    expected = plain(demux([bytes(data)]))
    events = Demuxer().feed(data)  # type: ignore[arg-type]
    data[:] = bytes(len(data))
    assert plain(events) == expected


def test_an_end_inside_an_element_is_counted() -> None:
    """A recording may end anywhere: the incomplete element is dropped, and its bytes are counted."""
    data = capture("gum-audio-250.webm").data()
    events = Demuxer().feed(data)
    last = max(event.offset for event in events if isinstance(event, SegmentStart))
    for end, dropped in ((last + 1, 1), (last + 3, 3), (last, 0)):
        demuxer = Demuxer()
        demuxer.feed(data[:end])
        assert demuxer.close() == []
        assert (demuxer.truncated, demuxer.pending) == (dropped, 0)
    with pytest.raises(ValueError, match="after close"):
        demuxer.feed(b"")
