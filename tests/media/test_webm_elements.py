"""The demuxer on what other muxers may send: known sizes, BlockGroups, lacing, odd elements, all codecs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    CRC32,
    encode,
    encode_float,
    encode_id,
    encode_string,
    encode_uint,
    unknown_size,
    vint,
    void,
)
from ingestd.media.frames import NS_PER_MS, Frame, Header, Kind, RecorderStart, SegmentStart, Track
from tests.media.tools import (
    block,
    cluster,
    demux,
    ebml_head,
    frames_of,
    header_of,
    init,
    plain,
    simple,
    track_entry,
)


def group(payload: bytes = b"frame", *extra: bytes, relative: int = 0, flags: int = 0) -> bytes:
    """A BlockGroup."""
    return encode(
        ids.BLOCK_GROUP, encode(ids.BLOCK, block(payload, relative=relative, flags=flags)) + b"".join(extra)
    )


def payloads(data: bytes) -> list[bytes]:
    """The payloads of all frames in *data*, fed whole and byte by byte."""
    whole = plain(demux([data]))
    assert plain(demux([data[at : at + 1] for at in range(len(data))])) == whole
    return [bytes(frame.payload) for frame in frames_of(whole)]


@pytest.mark.parametrize("known", [True, False])
def test_clusters_of_either_kind_of_size_follow_each_other(known: bool) -> None:
    """A Cluster of unknown size ends where the next element of its parent's level begins."""
    tags = encode(ids.TAGS, void(300))
    data = init() + cluster(simple(b"a"), known=known) + cluster(simple(b"b"), time=9, known=known) + tags
    data += cluster(simple(b"c"), time=20, known=not known) + encode(ids.CUES, b"")
    assert payloads(data) == [b"a", b"b", b"c"]
    starts = [event for event in demux([data]) if isinstance(event, SegmentStart)]
    assert [start.timestamp for start in starts] == [0, 9 * NS_PER_MS, 20 * NS_PER_MS]
    assert [data[start.offset :][:4] for start in starts] == [encode_id(ids.CLUSTER)] * 3


def test_a_segment_of_known_size_may_be_followed_by_another_container() -> None:
    """Whole files back to back are two recorders, each with its header and frames."""
    body = encode(ids.TRACKS, track_entry()) + cluster(simple(b"x"), known=False)
    one = ebml_head() + encode(ids.SEGMENT, body)
    events = demux([one + one])
    kinds = [type(event) for event in events]
    assert kinds == [RecorderStart, Header, SegmentStart, Frame] * 2
    assert [event.offset for event in events if isinstance(event, Header)] == [0, len(one)]


def test_a_block_group_says_by_its_references_whether_it_is_a_keyframe() -> None:
    """No ReferenceBlock: a keyframe, whatever the flags; BlockDuration becomes the frame's duration."""
    reference = encode(ids.REFERENCE_BLOCK, b"\xe0")
    duration = encode_uint(ids.BLOCK_DURATION, 40)
    data = init() + cluster(group(b"k"), group(b"p", reference, duration, relative=-5, flags=0x80), time=100)
    first, second = frames_of(plain(demux([data])))
    assert first == Frame(1, 100 * NS_PER_MS, True, b"k", None)
    assert second == Frame(1, 95 * NS_PER_MS, False, b"p", 40 * NS_PER_MS)


LACED = [bytes([65 + index]) * size for index, size in enumerate((3, 700, 255, 2, 1))]


def xiph(frames: list[bytes]) -> bytes:
    """Frames in Xiph lacing."""
    sizes = b"".join(b"\xff" * (len(frame) // 255) + bytes((len(frame) % 255,)) for frame in frames[:-1])
    return bytes((len(frames) - 1,)) + sizes + b"".join(frames)


def ebml_laced(frames: list[bytes]) -> bytes:
    """Frames in EBML lacing: the first size, then signed differences."""
    lengths = [len(frame) for frame in frames[:-1]]
    sizes = vint(lengths[0])
    for before, after in pairwise(lengths):
        sizes += vint(after - before + (1 << 13) - 1, 2)
    return bytes((len(frames) - 1,)) + sizes + b"".join(frames)


@pytest.mark.parametrize(
    ("flags", "laced", "expected"),
    [
        (0x02, xiph(LACED), LACED),
        (0x06, ebml_laced(LACED), LACED),
        (0x04, b"\x02" + b"aabbcc", [b"aa", b"bb", b"cc"]),
        (0x04, b"\x00" + b"all", [b"all"]),
        (0x02, b"\x00" + b"all", [b"all"]),
        (0x06, b"\x00" + b"all", [b"all"]),
    ],
    ids=["xiph", "ebml", "fixed", "fixed-one", "xiph-one", "ebml-one"],
)
def test_laced_frames_are_taken_apart(flags: int, laced: bytes, expected: list[bytes]) -> None:
    """Each of the three lacings gives back the frames that went in."""
    assert payloads(init() + cluster(simple(laced, flags=flags))) == expected


def test_laced_frames_are_spaced_by_what_is_known() -> None:
    """DefaultDuration spaces laced frames; else BlockDuration is shared; else all carry the block's time."""
    laced = b"\x01" + b"ab"
    lacing = {"flags": 0x04}
    entry = track_entry(extra=encode_uint(ids.DEFAULT_DURATION, 20 * NS_PER_MS))
    duration = encode_uint(ids.BLOCK_DURATION, 14)
    for data, step in (
        (init(entry) + cluster(simple(laced, **lacing)), 20),
        (init() + cluster(group(laced, duration, **lacing)), 7),
        (init() + cluster(simple(laced, **lacing)), 0),
    ):
        assert [frame.timestamp for frame in frames_of(demux([data]))] == [0, step * NS_PER_MS]


def test_times_follow_scale_and_codec_delay() -> None:
    """Ticks are TimestampScale nanoseconds long, and CodecDelay is subtracted, below zero if need be."""
    entry = track_entry(extra=encode_uint(ids.CODEC_DELAY, 6_500_000))
    data = init(entry, info=encode_uint(ids.TIMESTAMP_SCALE, 100_000))
    data += cluster(simple(relative=-7), simple(relative=30_000), time=10)
    assert [frame.timestamp for frame in frames_of(demux([data]))] == [-6_200_000, 3_001_000_000 - 6_500_000]


def test_elements_of_no_interest_are_passed_over() -> None:
    """Void, CRC-32 and unknown elements may stand anywhere, and are never held back."""
    odd = void(2) + encode(CRC32, b"abcd") + encode(0x7ABC, b"unknown" * 40) + void(5000)
    body = odd + encode(ids.INFO, odd) + encode(ids.TRACKS, odd + track_entry(extra=odd) + odd) + odd
    data = ebml_head(extra=odd) + encode_id(ids.SEGMENT) + unknown_size() + body
    data += cluster(
        odd, simple(b"1"), odd, encode(ids.BLOCK_GROUP, odd + encode(ids.BLOCK, block(b"2"))), odd
    )
    assert payloads(data) == [b"1", b"2"]


def test_blocks_of_other_kinds_of_track_are_passed_over() -> None:
    """Subtitles are not carried: the track is not in the header, and its blocks are no error."""
    data = init(track_entry(1), track_entry(2, kind=17, codec_id="S_TEXT/UTF8"))
    data += cluster(simple(b"subtitle", track=2), simple(b"video"))
    assert payloads(data) == [b"video"]
    assert [track.number for track in header_of(demux([data])).tracks] == [1]


def test_header_stripping_is_undone() -> None:
    """Bytes that ContentCompSettings took off each frame are put back."""
    compression = encode(
        ids.CONTENT_COMPRESSION,
        encode_uint(ids.CONTENT_COMP_ALGO, 3) + encode(ids.CONTENT_COMP_SETTINGS, b"he"),
    )
    encodings = encode(ids.CONTENT_ENCODINGS, encode(ids.CONTENT_ENCODING, compression))
    data = init(track_entry(extra=encodings)) + cluster(simple(b"ad"), simple(b"\x01xyyz", flags=0x04))
    assert payloads(data) == [b"head", b"hexy", b"heyz"]


def test_track_numbers_may_be_long() -> None:
    """A track number above 127 takes two bytes in each block."""
    data = init(track_entry(300)) + cluster(simple(b"far", track=300))
    assert frames_of(plain(demux([data]))) == [Frame(300, 0, True, b"far", None)]


@pytest.mark.parametrize(
    ("codec_id", "bit_depth", "name"),
    [
        ("V_VP9", None, "vp9"),
        ("V_MPEGH/ISO/HEVC", None, "hevc"),
        ("A_AAC", None, "aac"),
        ("A_AAC/MPEG4/LC", None, "aac"),
        ("A_MPEG/L3", None, "mp3"),
        ("A_PCM/INT/LIT", 16, "pcm_s16le"),
        ("A_PCM/INT/LIT", 8, "pcm_u8"),
        ("A_PCM/INT/BIG", 24, "pcm_s24be"),
        ("A_PCM/FLOAT/IEEE", 32, "pcm_f32le"),
        ("A_PCM/INT/LIT", None, "a_pcm/int/lit"),
        ("V_NEWEST/THING", None, "v_newest/thing"),
    ],
)
def test_codecs_have_ffmpegs_names(codec_id: str, bit_depth: int | None, name: str) -> None:
    """Codec ids become FFmpeg's short names, unknown ones stay recognisable, all can be written back."""
    audio = encode(ids.AUDIO, encode_uint(ids.BIT_DEPTH, bit_depth)) if bit_depth else b""
    data = init(track_entry(kind=2 if codec_id[0] == "A" else 1, codec_id=codec_id, extra=audio)) + cluster()
    assert header_of(demux([data])).tracks[0].codec == name
    if codec_id != "A_AAC/MPEG4/LC":
        assert ids.codec_id_of(name) == (codec_id, bit_depth)


def test_a_track_says_all_that_a_decoder_needs() -> None:
    """Private data, sizes, rates, delays and colour come through as they were declared."""
    colour = encode_uint(0x55B9, 2)
    video = (
        encode_uint(ids.PIXEL_WIDTH, 640) + encode_uint(ids.PIXEL_HEIGHT, 360) + encode(ids.COLOUR, colour)
    )
    audio = encode_float(ids.SAMPLING_FREQUENCY, 44100.0) + encode_uint(ids.CHANNELS, 2)
    extra = (
        encode_uint(ids.CODEC_DELAY, 5)
        + encode_uint(ids.SEEK_PRE_ROLL, 6)
        + encode(ids.CODEC_PRIVATE, b"conf")
    )
    entries = (
        track_entry(1, 1, "V_VP8", encode(ids.VIDEO, video) + encode_uint(ids.DEFAULT_DURATION, 40)),
        track_entry(2, 2, "A_OPUS", encode(ids.AUDIO, audio) + extra + encode_string(ids.LANGUAGE, "und")),
    )
    assert header_of(demux([init(*entries) + cluster()])).tracks == (
        Track(
            number=1, kind=Kind.VIDEO, codec="vp8", width=640, height=360, default_duration=40, colour=colour
        ),
        Track(
            number=2,
            kind=Kind.AUDIO,
            codec="opus",
            private=b"conf",
            sample_rate=44100,
            channels=2,
            codec_delay=5,
            seek_preroll=6,
        ),
    )
