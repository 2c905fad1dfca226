"""H.264: NAL units, parameter sets, avcC, and Chromium's Annex B brought into the usual shape."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.media.frames import Frame, Kind, Track
from ingestd.media.h264 import (
    IDR,
    PPS,
    SPS,
    build_avcc,
    join_annexb,
    join_prefixed,
    nal_type,
    parse_avcc,
    parse_sps,
    split_annexb,
    split_prefixed,
)
from ingestd.media.normalise import normalise
from ingestd.media.webm_mux import Muxer
from tests.media.tools import (
    demux,
    ffmpeg_complaints,
    ffprobe_packets,
    frames_of,
    header_of,
    mkvmerge_complaints,
)
from tests.support.captures import Capture, capture, captures
from tests.support.packages import program

h264_captures = pytest.mark.parametrize(
    "recorded",
    [found for found in captures() if "avc1" in found.mime and "restart" not in found.name],
    ids=lambda recorded: recorded.name,
)
units = st.lists(
    st.binary(min_size=1, max_size=40).map(lambda data: b"\x65" + data.replace(b"\0", b"\1") + b"\x80"),
    max_size=6,
)


def normalised(recorded: Capture, skip: int = 0) -> tuple[list[Track], list[Frame]]:
    """All tracks and frames that come out for the video of *recorded*, from its frame *skip* on."""
    events = demux([recorded.data()])
    track = next(track for track in header_of(events).tracks if track.kind is Kind.VIDEO)
    normaliser, tracks, out = normalise(track), [], []
    for frame in [frame for frame in frames_of(events) if frame.track == track.number][skip:]:
        changed, done = normaliser.push(frame)
        tracks += [changed] if changed else []
        out += [done] if done else []
    return tracks, out


@given(units, st.sampled_from([b"\0\0\1", b"\0\0\0\1", b"\0\0\0\0\0\1"]))
def test_annex_b_and_length_prefixes_hold_the_same_units(nals: list[bytes], start: bytes) -> None:
    """Units survive both shapes, whatever zeros stand before a start code."""
    assert split_annexb(b"".join(start + nal for nal in nals)) == nals
    assert split_annexb(join_annexb(nals)) == nals
    assert split_prefixed(join_prefixed(nals)) == nals


def test_bytes_without_a_start_code_hold_no_unit() -> None:
    """What is not Annex B gives no unit rather than a wrong one."""
    assert split_annexb(b"\0\0\2abc") == split_annexb(b"") == []


@pytest.mark.parametrize("data", [b"\0\0\0\5abc", b"\0\0", b"\0\0\0\1a\0"])
def test_a_unit_cut_short_is_refused(data: bytes) -> None:
    """Lengths that reach beyond the data raise ValueError."""
    with pytest.raises(ValueError, match="cut short"):
        split_prefixed(data)


ENCODES = [  # (size, pixel format, x264's profile, interlaced): cropping and chroma in all their forms
    ("176x144", "yuv420p", "baseline", False),
    ("1280x720", "yuv420p", "main", False),
    ("1920x1080", "yuv420p", "high", False),
    ("638x358", "yuv420p", "high", False),
    ("318x238", "yuv422p", "high422", False),
    ("317x239", "yuv444p", "high444", False),
    ("320x240", "yuv420p10le", "high10", False),
    ("720x572", "yuv420p", "high", True),
]


@pytest.mark.parametrize(("size", "pixels", "profile", "interlaced"), ENCODES, ids=lambda value: str(value))
def test_an_sps_says_profile_level_and_size(
    tmp_path: Path, size: str, pixels: str, profile: str, interlaced: bool
) -> None:
    """Level, bit depth and the size after cropping equal ffprobe's, and the avcC is as good as FFmpeg's."""
    source = ["-f", "lavfi", "-i", f"testsrc=size={size}:rate=1", "-frames:v", "1", "-pix_fmt", pixels]
    encoder = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-profile:v",
        profile,
        "-bsf:v",
        "filter_units=pass_types=1-5|7-8",
    ]
    encoder += ["-flags", "+ilme+ildct"] if interlaced else []
    raw, mp4 = tmp_path / "out.h264", tmp_path / "out.mkv"
    ffmpeg = [program("ffmpeg"), "-nostdin", "-v", "error"]
    subprocess.run([*ffmpeg, *source, *encoder, str(raw)], check=True)
    subprocess.run([*ffmpeg, "-i", str(raw), "-c", "copy", str(mp4)], check=True, capture_output=True)
    fields = "stream=width,height,level,profile,bits_per_raw_sample"
    probe = [program("ffprobe"), "-v", "error", "-show_entries", fields, "-of", "json", str(raw)]
    stream = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)["streams"][0]
    nals = split_annexb(raw.read_bytes())
    sps = [nal for nal in nals if nal_type(nal) == SPS]
    pps = [nal for nal in nals if nal_type(nal) == PPS]
    info = parse_sps(sps[0])
    assert f"{info.width}x{info.height}" == size == f"{stream['width']}x{stream['height']}"
    assert info.level == stream["level"]
    assert info.bit_depth_luma == info.bit_depth_chroma == int(stream["bits_per_raw_sample"])
    written = header_of(demux([mp4.read_bytes()])).tracks[0].private
    record = build_avcc(sps, pps)
    assert parse_avcc(record) == parse_avcc(written) == (4, sps, pps)
    assert record[:4] == written[:4]


@given(st.binary(max_size=60))
def test_any_parameter_set_is_read_or_refused(data: bytes) -> None:
    """Whatever the bytes, an SPS and an avcC are parsed or raise ValueError."""
    for parse in (lambda: parse_sps(b"\x67\x64\0\x1f" + data), lambda: parse_avcc(b"\1" + data)):
        try:
            parse()
        except ValueError as error:
            assert str(error)  # noqa: PT017 -- either way is right


@h264_captures
def test_chromiums_h264_gets_avcc_and_length_prefixes(recorded: Capture, tmp_path: Path) -> None:
    """Annex B becomes avcC and prefixed units that FFmpeg and mkvmerge take without a warning."""
    tracks, frames = normalised(recorded)
    events = demux([recorded.data()])
    source = header_of(events).tracks[0]
    assert len(frames) == len([frame for frame in frames_of(events) if frame.track == source.number])
    assert tracks[0].private[:1] == b"\1"
    assert (tracks[0].width, tracks[0].height, tracks[0].colour) == (
        source.width,
        source.height,
        source.colour,
    )
    last = next((index for index, frame in enumerate(frames) if frame.keyframe and index), len(frames))
    muxer = Muxer(tracks[:1])
    path = tmp_path / "out.mkv"
    path.write_bytes(muxer.header() + muxer.mux(frames[:last]))
    assert ffmpeg_complaints(path, decode=True) == ""
    assert mkvmerge_complaints(path, tmp_path / "remuxed.mkv") == []
    assert [packet[1:] for packet in ffprobe_packets(path)] == [
        (frame.timestamp // 1_000_000, frame.keyframe, len(frame.payload)) for frame in frames[:last]
    ]


@h264_captures
def test_keyframes_carry_their_parameter_sets(recorded: Capture) -> None:
    """SPS and PPS stay in band, so that each keyframe is a place to begin."""
    for frame in normalised(recorded)[1]:
        kinds = {nal_type(unit) for unit in split_prefixed(frame.payload)}
        assert frame.keyframe == (IDR in kinds)
        assert not frame.keyframe or {SPS, PPS} <= kinds


@h264_captures
def test_a_replay_from_any_keyframe_gives_the_same(recorded: Capture) -> None:
    """From a later keyframe on, frames are the same, and so is the track that was valid there."""
    tracks, frames = normalised(recorded)
    keyframes = [index for index, frame in enumerate(frames) if frame.keyframe]
    assert len(keyframes) > 1
    for index in keyframes:
        later, replayed = normalised(recorded, skip=index)
        assert replayed == frames[index:]
        assert later == tracks[-len(later) :]


def test_a_change_of_resolution_is_a_new_track() -> None:
    """The browser changes size in band: each new SPS gives a new track with its own size."""
    tracks, _ = normalised(capture("gum-h264webm-resize.mkv"))
    sizes = [(track.width, track.height) for track in tracks]
    assert sizes[:2] == [(1280, 720), (640, 360)]
    assert len({track.private for track in tracks}) >= 2


def test_frames_before_the_first_parameter_sets_are_dropped() -> None:
    """Nothing can decode them: they are dropped and counted."""
    recorded = capture("cv-h264webm-100.mkv")
    events = demux([recorded.data()])
    source = header_of(events).tracks[0]
    frames = [frame for frame in frames_of(events) if frame.track == source.number]
    normaliser = normalise(source)
    assert normaliser.track is None
    assert [normaliser.push(frame) for frame in frames[1:4]] == [(None, None)] * 3
    track, frame = normaliser.push(frames[0])
    assert track is not None
    assert track is normaliser.track
    assert frame is not None
    assert normaliser.dropped == 3
    assert normaliser.push(Frame(source.number, 0, False, b"no start code")) == (None, None)
    assert normaliser.dropped == 4


@pytest.mark.parametrize(
    "track",
    [
        Track(number=1, kind=Kind.VIDEO, codec="h264", private=b"\1avcC"),
        Track(number=1, kind=Kind.VIDEO, codec="vp9"),
        Track(number=1, kind=Kind.VIDEO, codec="vp8", colour=b"\x55\xb9\x81\x02"),
        Track(number=2, kind=Kind.AUDIO, codec="opus"),
    ],
    ids=["avcC", "vp9", "vp8", "opus"],
)
def test_other_tracks_pass_through(track: Track) -> None:
    """A track in its usual shape, and its very frames, are handed on."""
    normaliser = normalise(track)
    frame = Frame(track.number, 0, True, b"payload")
    assert normaliser.push(frame) == (None, frame)
    assert normaliser.track == track
    assert normaliser.dropped == 0
