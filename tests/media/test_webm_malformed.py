"""The demuxer on bytes that are wrong: one typed error with its offset, and bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    DOC_TYPE_READ_VERSION,
    EBML,
    EBML_MAX_ID_LENGTH,
    EBML_MAX_SIZE_LENGTH,
    encode,
    encode_id,
    encode_uint,
    unknown_size,
    vint,
    void,
)
from ingestd.media.frames import Event
from ingestd.media.webm_demux import Demuxer
from tests.media.tools import block, cluster, demux, ebml_head, frames_of, init, plain, simple, track_entry
from tests.support.captures import Capture, capture, captures

MAX_FRAME = 300_000


def outcome(data: bytes, piece: int) -> tuple[list[Event], tuple[int, str] | None]:
    """All events, and the error if there is one, of *data* fed in pieces; checks the bounds on the way."""
    demuxer, events = Demuxer(max_frame=MAX_FRAME), []
    for position in range(0, len(data), piece):
        try:
            events += demuxer.feed(data[position : position + piece])
        except MediaError as raised:
            error = raised
            break
        assert demuxer.pending <= MAX_FRAME + 12
    else:
        demuxer.close()
        return plain(events), None
    with pytest.raises(MediaError) as again:
        demuxer.feed(b"more")
    assert again.value is error
    assert 0 <= error.offset <= len(data)
    assert demuxer.pending == 0
    return plain(events + demuxer.salvaged), (error.offset, error.reason)


def encodings(body: bytes) -> bytes:
    """A track whose ContentEncoding is *body*."""
    return init(track_entry(extra=encode(ids.CONTENT_ENCODINGS, encode(ids.CONTENT_ENCODING, body))))


INIT = init()
HUGE = encode_id(ids.SIMPLE_BLOCK) + vint((1 << 56) - 2, 8)
WRONG = {
    "not a container": (b"RIFF", 0, "begins with 0x52"),
    "an MP4": (b"\0\0\0\x20ftyp", 0, "begins with 0x00"),
    "another id that begins with 0x1a": (b"\x1a\x45\xdf\xa4\x80", 0, "only an EBML head"),
    "an EBML head of unknown size": (encode_id(EBML) + unknown_size(), 0, "unknown size"),
    "another DocType": (ebml_head("avi"), 0, "'avi'"),
    "a later version": (ebml_head(extra=encode_uint(DOC_TYPE_READ_VERSION, 5)), 12, "version 5"),
    "long ids": (ebml_head(extra=encode_uint(EBML_MAX_ID_LENGTH, 8)), 12, "EBMLMaxIDLength 8"),
    "long sizes": (ebml_head(extra=encode_uint(EBML_MAX_SIZE_LENGTH, 9)), 12, "EBMLMaxSizeLength 9"),
    "no Segment": (ebml_head() + cluster(), 12, "outside a Segment"),
    "two Segments": (
        INIT + cluster() + encode_id(ids.SEGMENT) + unknown_size(),
        len(INIT) + 15,
        "without an EBML head",
    ),
    "no Tracks": (ebml_head() + encode_id(ids.SEGMENT) + unknown_size() + cluster(), 24, "before Tracks"),
    "no usable track": (init(track_entry(kind=17)), 29, "no video or audio track"),
    "a track number twice": (init(track_entry(), track_entry()), 49, "used twice"),
    "track number zero": (init(track_entry(number=0)), 34, "without a number"),
    "no codec": (init(track_entry(codec_id="")), 34, "without a CodecID"),
    "too many tracks": (init(*(track_entry(number) for number in range(1, 40))), 275, "more than 16"),
    "scale zero": (init(info=encode_uint(ids.TIMESTAMP_SCALE, 0)), 29, "TimestampScale 0"),
    "a block before the Timestamp": (
        INIT + encode_id(ids.CLUSTER) + unknown_size() + simple(),
        len(INIT) + 12,
        "before its Cluster's Timestamp",
    ),
    "a block of an unknown track": (INIT + cluster(simple(track=9)), len(INIT) + 15, "track 9"),
    "a block without a header": (
        INIT + cluster(encode(ids.SIMPLE_BLOCK, b"\x81\0")),
        len(INIT) + 15,
        "too short",
    ),
    "an empty block": (INIT + cluster(encode(ids.SIMPLE_BLOCK, b"")), len(INIT) + 15, "missing"),
    "a group without a block": (
        INIT + cluster(encode(ids.BLOCK_GROUP, void(4))),
        len(INIT) + 15,
        "without a Block",
    ),
    "a group of unknown size": (
        INIT + cluster(encode_id(ids.BLOCK_GROUP) + unknown_size()),
        len(INIT) + 15,
        "unknown size",
    ),
    "a child beyond its group": (
        INIT + cluster(encode(ids.BLOCK_GROUP, b"\xa1\x90abc")),
        len(INIT) + 17,
        "beyond the end of its parent",
    ),
    "an encrypted block": (
        INIT + cluster(encode(ids.ENCRYPTED_BLOCK, block())),
        len(INIT) + 15,
        "EncryptedBlock",
    ),
    "a huge block": (INIT + cluster(HUGE), len(INIT) + 15, "at most 300000"),
    "a huge unknown element": (INIT + cluster(b"\xec" + HUGE[1:]), len(INIT) + 15, "at most 300000"),
    "a huge header": (init(info=void(280_000)) + void(290_000) * 4, 860_051, "init segment is longer"),
    "a block beyond its cluster": (
        INIT + encode_id(ids.CLUSTER) + vint(8) + encode_uint(ids.TIMESTAMP, 0) + simple(),
        len(INIT) + 8,
        "beyond the end of its parent",
    ),
    "a cluster in a cluster of known size": (
        INIT + cluster(cluster(), known=True),
        len(INIT) + 8,
        "inside a Cluster of known size",
    ),
    "a container in a cluster of known size": (
        INIT + cluster(ebml_head(), known=True),
        len(INIT) + 8,
        "inside an element of known size",
    ),
    "an id of zeros": (INIT + cluster(b"\x80\x80"), len(INIT) + 15, "reserved"),
    "an id of ones": (INIT + cluster(b"\xff\x80"), len(INIT) + 15, "reserved"),
    "an id that is too long": (INIT + cluster(b"\x08\0\0\0\0"), len(INIT) + 15, "cannot begin"),
    "a size that is too long": (INIT + cluster(b"\xa3\0"), len(INIT) + 15, "longer than 8"),
    "fixed lacing that does not divide": (
        INIT + cluster(simple(b"\x01abc", flags=4)),
        len(INIT) + 15,
        "3 bytes",
    ),
    "Xiph lacing beyond the block": (
        INIT + cluster(simple(b"\x01\xff\xffab", flags=2)),
        len(INIT) + 15,
        "beyond",
    ),
    "Xiph lacing cut short": (INIT + cluster(simple(b"\x03\xff", flags=2)), len(INIT) + 15, "cut short"),
    "EBML lacing that turns negative": (
        INIT + cluster(simple(b"\x02\x81\x80abc", flags=6)),
        len(INIT) + 15,
        "beyond",
    ),
    "EBML lacing cut short": (INIT + cluster(simple(b"\x05\x81", flags=6)), len(INIT) + 15, "missing"),
    "laced frames of nothing": (
        INIT + cluster(simple(b"\xff", flags=4)),
        len(INIT) + 15,
        "empty laced frame",
    ),
    "lacing without a count": (
        INIT + cluster(simple(b"", flags=6)),
        len(INIT) + 15,
        "without its frame count",
    ),
    "encryption": (encodings(encode_uint(ids.CONTENT_ENCODING_TYPE, 1)), 52, "encrypted"),
    "compression": (encodings(encode(ids.CONTENT_COMPRESSION, b"")), 52, "compressed"),
    "a long integer": (
        INIT + encode_id(ids.CLUSTER) + unknown_size() + encode(ids.TIMESTAMP, bytes(9)),
        len(INIT) + 12,
        "9 bytes",
    ),
    "a time beyond 292 years": (INIT + cluster(time=1 << 60), len(INIT) + 12, "out of range"),
    "an infinite rate": (
        init(track_entry(1, 2, "A_AAC", encode(ids.AUDIO, encode(ids.SAMPLING_FREQUENCY, b"\x7f\x80\0\0")))),
        51,
        "not a finite",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_bytes_give_one_error_with_its_offset(case: str) -> None:
    """What is wrong is named, with the place, and alike whether the bytes come whole or one by one."""
    data, offset, reason = WRONG[case]
    events, error = outcome(data, len(data))
    assert error is not None
    assert error[0] == offset
    assert reason in error[1]
    piece = 1 if len(data) < 10_000 else 997
    assert outcome(data, piece) == (events, error)


def test_what_came_before_the_error_is_not_lost() -> None:
    """Frames that were complete before the malformed element are in `salvaged`."""
    demuxer = Demuxer()
    with pytest.raises(MediaError):
        demuxer.feed(INIT + cluster(simple(b"good"), b"\xff\xff"))
    assert [bytes(frame.payload) for frame in frames_of(demuxer.salvaged)] == [b"good"]


def test_a_long_block_in_small_pieces_costs_no_more_memory_than_itself() -> None:
    """What is held back is the incomplete element, byte for byte."""
    demuxer = Demuxer()
    demuxer.feed(INIT + cluster())
    data = simple(bytes(200_000))
    for position in range(0, len(data) - 1000, 1000):
        demuxer.feed(data[position : position + 1000])
        assert position < demuxer.pending + 20 <= position + 1020


def test_a_skipped_element_is_not_held_back() -> None:
    """Tags, Cues and the like pass by whatever their size."""
    demuxer = Demuxer()
    demuxer.feed(INIT + cluster())
    data = encode(ids.TAGS, bytes(500_000))
    for position in range(0, len(data), 10_000):
        demuxer.feed(data[position : position + 10_000])
        assert demuxer.pending == 0


@given(
    recorded=st.sampled_from(captures()),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), min_size=1, max_size=6),
    piece=st.sampled_from([1, 7, 1000]),
)
@settings(max_examples=400, deadline=None)
def test_flipped_bits_give_events_or_a_media_error(
    recorded: Capture, flips: list[tuple[int, int]], piece: int
) -> None:
    """Whatever bits flip, only MediaError is raised, alike for all splits, and memory stays bounded."""
    data = bytearray(recorded.data()[:6000])
    for position, mask in flips:
        data[position] ^= mask
    assert outcome(bytes(data), piece) == outcome(bytes(data), len(data))


@given(junk=st.binary(max_size=400), at=st.integers(0, 600), piece=st.sampled_from([1, 5, 10_000]))
@settings(max_examples=400, deadline=None)
def test_junk_gives_events_or_a_media_error(junk: bytes, at: int, piece: int) -> None:
    """Junk in the header, in a cluster or behind one never raises anything but MediaError."""
    good = INIT + cluster(simple(bytes(50)), simple(b"laced" * 9, flags=2)) + cluster(time=3, known=True)
    data = good[:at] + junk + good[at:]
    assert outcome(data, piece) == outcome(data, max(1, len(data)))


@given(element=st.sampled_from([0xA3, 0xA0]), body=st.binary(max_size=60), flags=st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_any_block_body_gives_events_or_a_media_error(element: int, body: bytes, flags: int) -> None:
    """Blocks and groups with any content are frames or a MediaError."""
    inner = b"\x81\0\0" + bytes((flags,)) + body
    data = INIT + cluster(encode(element, inner if element == 0xA3 else encode(ids.BLOCK, inner) + body))
    assert outcome(data, 1) == outcome(data, len(data))


def test_any_truncation_is_silent() -> None:
    """Wherever a recording ends, its complete frames are there and nothing is raised."""
    data = capture("gum-audio-250.webm").data()[:3000]
    count = 0
    for end in range(len(data)):
        demuxer = Demuxer()
        got = len(frames_of(demuxer.feed(data[:end])))
        demuxer.close()
        assert got >= count
        count = got
    assert count == len(frames_of(demux([data[:-1]])))
