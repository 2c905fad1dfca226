"""The MP4 demuxer on what browsers and FFmpeg write: whatever the boundaries, ffprobe's frames."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.media.frames import NS_PER_MS, Frame, Header, Kind, RecorderStart, SegmentStart
from ingestd.media.mp4_demux import Mp4Demuxer
from tests.media.mp4_tools import (
    MP4_CAPTURES,
    demux_mp4,
    ffprobe_ns,
    fragment,
    moof,
    mp4_capture,
    mp4_init,
    packets_ns,
    plain_frames,
    traf,
    trak,
    trun,
)
from tests.media.tools import frames_of, header_of, plain
from tests.support.captures import Capture
from tests.support.packages import program

every_capture = pytest.mark.parametrize("recorded", MP4_CAPTURES, ids=lambda recorded: recorded.name)


@every_capture
def test_frames_are_ffprobes(recorded: Capture, tmp_path: Path) -> None:
    """Track, time, keyframe flag and size of each frame equal ffprobe's list, recorder by recorder."""
    for number, data in enumerate(recorded.recorders()):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        assert sorted(packets_ns(demux_mp4([data]))) == sorted(ffprobe_ns(path))


FFMPEG = {
    "B-frames": "-c:v libx264 -bf 2 -c:a aac -movflags empty_moov+frag_keyframe+default_base_moof",
    "absolute offsets": "-c:v libx264 -bf 2 -c:a aac -movflags empty_moov+frag_keyframe",
    "edit lists": "-c:v libx264 -bf 2 -c:a aac -movflags empty_moov+frag_keyframe+delay_moov",
    "late audio": "-c:v libx264 -bf 2 -c:a aac -movflags empty_moov+frag_keyframe+delay_moov -af adelay=700",
    "single frames": "-c:v libx264 -bf 2 -c:a aac -movflags empty_moov+frag_every_frame+default_base_moof",
    "DASH": "-c:v libx264 -bf 2 -c:a aac -movflags dash+frag_keyframe+global_sidx -write_prft wallclock",
    "CMAF": "-c:v libx264 -bf 0 -c:a aac -movflags cmaf+frag_keyframe",
    "VP9 and Opus": "-c:v libvpx-vp9 -cpu-used 8 -c:a libopus -movflags empty_moov+frag_keyframe+delay_moov",
    "AV1 and FLAC": "-c:v libsvtav1 -preset 12 -strict -2 -c:a flac -movflags empty_moov+frag_keyframe",
    "HEVC and MP3": "-c:v libx265 -c:a libmp3lame -movflags empty_moov+frag_keyframe",
    "QuickTime": "-c:v libx264 -c:a aac -movflags empty_moov+frag_keyframe+default_base_moof -f mov",
    "ALAC": "-c:v libx264 -c:a alac -movflags empty_moov+frag_keyframe+default_base_moof",
}


def ffmpeg_mp4(path: Path, options: str) -> bytes:
    """Three seconds of a test picture and a tone, as FFmpeg writes them with *options*."""
    sources = "-f lavfi -i testsrc2=s=160x90:r=30:d=3 -f lavfi -i sine=r=48000:d=3 -g 30"
    command = f"{program('ffmpeg')} -nostdin -v error -y {sources} {options}"
    subprocess.run([*command.split(), str(path)], check=True, capture_output=True)
    return path.read_bytes()


@pytest.mark.parametrize("case", FFMPEG)
def test_frames_of_ffmpegs_fragments_are_ffprobes(case: str, tmp_path: Path) -> None:
    """Composition offsets, edit lists, both kinds of data offsets, boxes between: as ffprobe reads them."""
    data = ffmpeg_mp4(tmp_path / "made.mp4", FFMPEG[case])
    events = demux_mp4([data])
    assert sorted(packets_ns(events)) == sorted(ffprobe_ns(tmp_path / "made.mp4"))
    assert plain(demux_mp4(data[at : at + 777] for at in range(0, len(data), 777))) == plain(events)


def test_negative_composition_offsets_follow_the_standard(tmp_path: Path) -> None:
    """The picture begins with the sound, at 0; ffprobe moves it by the reordering, to keep dts below pts."""
    options = "-c:v libx264 -bf 2 -an -movflags empty_moov+frag_keyframe+negative_cts_offsets"
    times = [frame.timestamp for frame in frames_of(demux_mp4([ffmpeg_mp4(tmp_path / "made.mp4", options)]))]
    probed = [time for _, time, _, _ in ffprobe_ns(tmp_path / "made.mp4")]
    assert min(times) == 0
    assert {after - time for time, after in zip(times, probed, strict=True)} <= {33_333_333, 33_333_334}


@every_capture
def test_the_browsers_chunks_give_the_same_events(recorded: Capture) -> None:
    """Fed chunk by chunk, as they were received, the events are those of the whole file."""
    assert plain(demux_mp4(recorded.chunks())) == plain(demux_mp4([recorded.data()]))


@every_capture
def test_single_bytes_give_the_same_events(recorded: Capture) -> None:
    """Fed one byte at a time, the events are the same."""
    data = recorded.data()[:300_000]
    demuxer, events = Mp4Demuxer(), []
    for position in range(len(data)):
        events += demuxer.feed(data[position : position + 1])
    assert plain(events + demuxer.close()) == plain(demux_mp4([data]))


@given(
    recorded=st.sampled_from(MP4_CAPTURES),
    cuts=st.lists(st.floats(0, 1), max_size=60),
    near=st.integers(-9, 9),
)
@settings(max_examples=100, deadline=None)
def test_random_splits_give_the_same_events(recorded: Capture, cuts: list[float], near: int) -> None:
    """Split anywhere, also within a few bytes of a fragment's beginning, the events are the same."""
    data = recorded.data()
    whole = demux_mp4([data])
    starts = [event.offset for event in whole if isinstance(event, SegmentStart | RecorderStart)]
    edges = {min(max(start + near, 0), len(data)) for start in starts}
    edges |= {int(cut * len(data)) for cut in cuts} | {0, len(data)}
    pieces = [data[begin:end] for begin, end in pairwise(sorted(edges))]
    assert plain(demux_mp4(pieces)) == plain(whole)


@every_capture
def test_the_header_is_the_init_segment(recorded: Capture) -> None:
    """The Header spans ftyp and moov, and its tracks say what was recorded."""
    events = demux_mp4([recorded.data()])
    header = header_of(events)
    first = next(event for event in events if isinstance(event, SegmentStart))
    assert (header.offset, header.size, header.doc_type) == (0, first.offset, "mp4")
    video, audio = header.tracks
    assert (video.kind, video.width, video.height) == (Kind.VIDEO, 1280, 720)
    assert video.codec == ("vp9" if "vp9" in recorded.name else "h264")
    assert (audio.kind, audio.codec, audio.sample_rate, audio.channels) == (Kind.AUDIO, "opus", 48000, 2)
    assert audio.private.startswith(b"OpusHead\x01\x02")


@every_capture
def test_the_init_segment_is_told_with_its_last_byte(recorded: Capture) -> None:
    """Nobody has to wait for the first fragment, which comes seconds later."""
    size = header_of(demux_mp4([recorded.data()])).size
    demuxer = Mp4Demuxer()
    assert not any(isinstance(event, Header) for event in demuxer.feed(recorded.data()[: size - 1]))
    assert isinstance(demuxer.feed(recorded.data()[size - 1 : size])[0], Header)


@every_capture
def test_a_replay_from_a_later_fragment_gives_the_same_frames(recorded: Capture) -> None:
    """The init segment and then the bytes from any fragment on give the frames from that fragment on."""
    data = recorded.recorders()[0]
    whole = plain(demux_mp4([data]))
    init = data[: header_of(whole).size]
    for index, event in enumerate(whole):
        if isinstance(event, SegmentStart):
            replayed = plain(demux_mp4([init, data[event.offset :]]))
            assert frames_of(replayed) == frames_of(whole[index:])
            assert header_of(replayed) == header_of(whole)


def test_a_replay_needs_no_absolute_offsets(tmp_path: Path) -> None:
    """Fragments that count from the beginning of the file are read without it."""
    data = ffmpeg_mp4(tmp_path / "made.mp4", FFMPEG["absolute offsets"])
    whole = plain(demux_mp4([data]))
    last = max(index for index, event in enumerate(whole) if isinstance(event, SegmentStart))
    replayed = plain(demux_mp4([data[: header_of(whole).size], data[whole[last].offset :]]))
    assert frames_of(replayed) == frames_of(whole[last:])


@every_capture
def test_frames_come_by_decode_time(recorded: Capture) -> None:
    """Although all video of a fragment lies before all its audio, the frames come interleaved."""
    spans: list[list[int]] = []
    for event in demux_mp4([recorded.data()]):
        if isinstance(event, SegmentStart):
            spans.append([])
        elif isinstance(event, Frame):
            spans[-1].append(event.timestamp)
    assert all(times == sorted(times) for times in spans)


def test_a_second_recorder_begins_at_its_first_chunk() -> None:
    """A new ftyp is a new recorder, at the very chunk boundary where the browser began it."""
    recorded = mp4_capture("cv-mp4avc-restart.mp4")
    first, second = recorded.recorders()
    events = demux_mp4(recorded.chunks())
    starts = [event.offset for event in events if isinstance(event, RecorderStart)]
    assert starts == [0, len(first)]
    assert [event.offset for event in events if isinstance(event, Header)] == starts
    split = events.index(RecorderStart(len(first)))
    assert frames_of(plain(events[split:])) == frames_of(plain(demux_mp4([second])))


def test_a_recorder_is_told_where_its_box_begins() -> None:
    """Known with the eighth byte of ftyp, which may come later than the first: the offset is the first's."""
    first, second = mp4_capture("cv-mp4avc-restart.mp4").recorders()
    demuxer = Mp4Demuxer()
    demuxer.feed(first + second[:7])
    assert demuxer.feed(second[7:8]) == [RecorderStart(len(first))]


def test_a_frame_inside_one_chunk_is_not_copied() -> None:
    """Payloads view the fed bytes."""
    recorded = mp4_capture("gum-mp4vp9-250.mp4")
    demuxer = Mp4Demuxer()
    for chunk in recorded.chunks():
        for frame in frames_of(demuxer.feed(chunk)):
            assert isinstance(frame.payload, memoryview)
            assert frame.payload.obj is chunk


def test_a_frame_comes_with_its_last_byte() -> None:
    """Not only at the end of the mdat, unless another track's frame has to go first."""
    init, data = mp4_init(), fragment(b"one", b"two")
    demuxer = Mp4Demuxer()
    demuxer.feed(init + data[:-4])
    (one,) = frames_of(demuxer.feed(data[-4:-3]) + demuxer.feed(data[-3:-1]))
    assert (bytes(one.payload), one.timestamp, one.duration) == (b"one", 0, 40 * NS_PER_MS)
    assert bytes(frames_of(demuxer.feed(data[-1:]))[0].payload) == b"two"


def two_tracks(video: list[bytes], audio: list[bytes]) -> bytes:
    """A fragment with all *video* before all *audio*, one frame every 40 ms each."""
    sizes = [len(payload) for payload in video], [len(payload) for payload in audio]

    def head(at: int) -> bytes:
        second = traf(trun(sizes[1], offset=at + sum(sizes[0])), track=2)
        return moof(traf(trun(sizes[0], offset=at)), second)

    body = b"".join(video + audio)
    return head(len(head(0)) + 8) + (8 + len(body)).to_bytes(4, "big") + b"mdat" + body


TWO = mp4_init(trak(1), trak(2, handler=b"soun", entry=b"\0\0\0\x24.mp3" + bytes(28)), numbers=(1, 2))


def test_waiting_frames_are_bounded() -> None:
    """Frames that wait for another track's go ahead when they would hold back more than max_frame bytes."""
    data = TWO + two_tracks([bytes(100)] * 5, [bytes(50)] * 5)
    for max_frame, expected in ((1000, [1, 2] * 5), (250, [1, 1, 1, 1, 2, 2, 2, 2, 1, 2])):
        for piece in (1, 5, len(data)):
            demuxer, frames = Mp4Demuxer(max_frame=max_frame), []
            for at in range(0, len(data), piece):
                frames += frames_of(demuxer.feed(data[at : at + piece]))
                assert demuxer.pending < 1000
            assert [frame.track for frame in frames] == expected


def test_waiting_frames_come_at_the_end() -> None:
    """A recording that ends inside a fragment loses no complete frame; the rest is counted."""
    data = TWO + two_tracks([b"vvvv"] * 3, [b"aa"] * 3)
    demuxer = Mp4Demuxer()
    assert [frame.track for frame in frames_of(demuxer.feed(data[:-7]))] == [1]
    assert demuxer.pending == 7
    assert [frame.track for frame in frames_of(demuxer.close())] == [1]
    assert (demuxer.truncated, demuxer.pending, demuxer.close()) == (3, 0, [])
    with pytest.raises(ValueError, match="after close"):
        demuxer.feed(b"")


def test_any_end_is_silent() -> None:
    """Wherever a recording ends, its complete frames are there and nothing is raised."""
    data = mp4_capture("gum-mp4vp9-250.mp4").data()[:30_000]
    whole = plain(demux_mp4([data]))
    count = 0
    for end in range(0, len(data), 7):
        frames = frames_of(demux_mp4([data[:end]]))
        assert len(frames) >= count
        count = len(frames)
    assert count == len(frames_of(whole)) > 3


def test_frames_do_not_change_with_the_callers_buffer() -> None:
    """A mutable buffer may be reused after feed: its frames are copies."""
    data = bytearray(mp4_init() + fragment(b"one", b"two"))
    events = Mp4Demuxer().feed(data)  # type: ignore[arg-type]
    expected = plain(demux_mp4([bytes(data)]))
    data[:] = bytes(len(data))
    assert plain(events) == expected
    assert [frame.payload for frame in plain_frames(events, 1)] == [b"one", b"two"]
