"""The MP4 demuxer on bytes that are wrong: one typed error with its offset, and bounded memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import MediaError
from ingestd.media.frames import Event
from ingestd.media.mp4_boxes import encode, encode_full
from ingestd.media.mp4_demux import Mp4Demuxer
from tests.media.mp4_tools import (
    AUDIO,
    FTYP,
    MP4_CAPTURES,
    MVHD,
    VISUAL,
    demux_mp4,
    fragment,
    moof,
    mp4_init,
    traf,
    trak,
    trex,
    trun,
)
from tests.media.tools import frames_of, plain
from tests.support.captures import Capture

MAX_FRAME = 300_000


def outcome(data: bytes, piece: int) -> tuple[list[Event], tuple[int, str] | None]:
    """All events, and the error if there is one, of *data* fed in pieces; checks the bounds on the way."""
    demuxer, events = Mp4Demuxer(max_frame=MAX_FRAME), []
    for position in range(0, len(data), piece):
        try:
            events += demuxer.feed(data[position : position + piece])
        except MediaError as raised:
            error = raised
            break
        assert demuxer.pending <= 2 * MAX_FRAME
    else:
        return plain(events + demuxer.close()), None
    with pytest.raises(MediaError) as again:
        demuxer.feed(b"more")
    assert again.value is error
    assert 0 <= error.offset <= len(data)
    assert demuxer.pending == 0
    assert demuxer.close() == []
    return plain(events + demuxer.salvaged), (error.offset, error.reason)


def entry(kind: bytes, *boxes: bytes) -> bytes:
    """A video sample entry."""
    return encode(kind, VISUAL, *boxes)


def sound(kind: bytes, *boxes: bytes) -> bytes:
    """An init segment with one track of sound."""
    return mp4_init(trak(entry=encode(kind, AUDIO, *boxes), handler=b"soun"))


def esds(*descriptors: int) -> bytes:
    """An esds box with these bytes."""
    return encode_full(b"esds", 0, 0, bytes(descriptors))


INIT = mp4_init()
MDAT = encode(b"mdat", b"data")
LONG = (b"\0\0\0\1", (1 << 62).to_bytes(8, "big"))
SHORT = moof(traf(trun([4], offset=0)))
LATE = moof(traf(trun([4], offset=len(SHORT) + 9)))
RIGHT = moof(traf(trun([4], offset=len(SHORT) + 8)))
# What is fed, the type of the box where the error lies, and what it says.
WRONG = {
    "text": (b"hello, world", b"o, w", "expected 'ftyp'"),
    "bytes": (bytes(8), bytes(4), "not a box"),
    "no ftyp": (encode(b"moov", MVHD), b"moov", "expected 'ftyp'"),
    "a size too small": (FTYP + b"\0\0\0\7free", b"free", "7 bytes"),
    "a long size too small": (FTYP + b"\0\0\0\1free" + bytes(7) + b"\x0f", b"free", "15 bytes"),
    "no size": (FTYP + b"\0\0\0\0mdat", b"mdat", "without a size"),
    "a huge box": (INIT + LONG[0] + b"free" + LONG[1], b"free", "at most 300000"),
    "a huge moov": (FTYP + LONG[0] + b"moov" + LONG[1], b"moov", "at most 1048576"),
    "a huge moof": (INIT + LONG[0] + b"moof" + LONG[1], b"moof", "at most 1048576"),
    "a huge mdat": (INIT + LONG[0] + b"mdat" + LONG[1], b"mdat", "of no sample"),
    "a long way to moov": (
        FTYP + encode(b"free", bytes(290_000)) * 3 + encode(b"skip", bytes(290_000)),
        b"skip",
        "init segment is longer",
    ),
    "mdat before moov": (FTYP + MDAT, b"mdat", "not a fragmented MP4"),
    "moof before moov": (FTYP + moof(), b"moof", "before 'moov'"),
    "moov twice": (INIT + encode(b"moov"), b"moov", "second 'moov'"),
    "no mvex": (mp4_init(mvex=b""), b"moov", "no mvex"),
    "samples in moov": (
        mp4_init(trak(stbl=encode_full(b"stsz", 0, 0, struct.pack(">II", 0, 3)))),
        b"stsz",
        "samples of its own",
    ),
    "no trex": (mp4_init(mvex=encode(b"mvex")), b"trak", "no trex"),
    "no mvhd": (FTYP + encode(b"moov", trak(), encode(b"mvex", trex())), b"moov", "without 'mvhd'"),
    "a track without mdia": (mp4_init(encode(b"trak", trak()[8:100])), b"trak", "without 'mdia'"),
    "track number zero": (mp4_init(trak(0)), b"trak", "without a number"),
    "a track number twice": (mp4_init(trak(), trak()), b"trak", "used twice"),
    "too many tracks": (
        mp4_init(*(trak(n) for n in range(1, 20)), numbers=range(1, 20)),
        b"trak",
        "more than 16",
    ),
    "no usable track": (mp4_init(trak(handler=b"text")), b"moov", "no video or audio"),
    "timescale zero": (mp4_init(trak(timescale=0)), b"mdhd", "timescale 0"),
    "no sample entry": (mp4_init(trak(entry=b"")), b"stbl", "without a sample entry"),
    "encrypted video": (mp4_init(trak(entry=entry(b"encv"))), b"encv", "encrypted"),
    "encrypted sound": (sound(b"enca"), b"enca", "encrypted"),
    "a short sample entry": (mp4_init(trak(entry=encode(b"vp08", b"short"))), b"vp08", "too short"),
    "H.264 without avcC": (mp4_init(trak(entry=entry(b"avc1"))), b"avc1", "without its 'avcC'"),
    "a short avcC": (mp4_init(trak(entry=entry(b"avc1", encode(b"avcC", b"\1")))), b"avcC", "too short"),
    "a later vpcC": (
        mp4_init(trak(entry=entry(b"vp09", encode(b"vpcC", bytes(12))))),
        b"vpcC",
        "version 0",
    ),
    "a later dOps": (sound(b"Opus", encode(b"dOps", b"\1" + bytes(10))), b"dOps", "version 1"),
    "dOps without its mapping": (
        sound(b"Opus", encode(b"dOps", b"\0\2" + bytes(8) + b"\1")),
        b"dOps",
        "mapping",
    ),
    "AAC without esds": (sound(b"mp4a"), b"mp4a", "without its 'esds'"),
    "esds of what is no sound": (
        sound(b"mp4a", esds(3, 20, 0, 0, 0, 4, 15, 0x20, *bytes(14))),
        b"esds",
        "0x20",
    ),
    "esds with other descriptors": (sound(b"mp4a", esds(7, 0, 0)), b"esds", "descriptor 7"),
    "esds beyond its end": (sound(b"mp4a", esds(3, 99, 0, 0)), b"esds", "beyond"),
    "esds without a configuration": (
        sound(b"mp4a", esds(3, 20, 0, 0, 0, 4, 15, 0x40, *bytes(12), 5, 0)),
        b"esds",
        "AudioSpecificConfig",
    ),
    "a child beyond its parent": (
        INIT + encode(b"moof", b"\0\0\0\x63traf"),
        b"traf",
        "beyond the end of 'moof'",
    ),
    "a child cut short": (INIT + encode(b"moof", b"\0\0\0\x09"), b"", "cut short"),
    "traf without tfhd": (INIT + moof(encode(b"traf")), b"traf", "without 'tfhd'"),
    "traf without tfdt": (INIT + moof(encode(b"traf", traf()[8:24])), b"traf", "without 'tfdt'"),
    "an unknown track": (INIT + moof(traf(track=9)), b"tfhd", "track 9"),
    "another sample entry": (
        INIT + moof(traf(flags=0x020002, extra=b"\0\0\0\2")),
        b"tfhd",
        "sample entry",
    ),
    "trun cut short": (
        INIT + moof(traf(encode_full(b"trun", 0, 0x200, struct.pack(">II", 2, 1)))),
        b"trun",
        "too short",
    ),
    "too many samples": (
        INIT + moof(traf(encode_full(b"trun", 0, 0, struct.pack(">I", 2**32 - 1)))),
        b"trun",
        "more than 8192",
    ),
    "a huge sample": (INIT + moof(traf(trun([MAX_FRAME + 1]))), b"trun", "at most 300000"),
    "a time beyond 292 years": (INIT + moof(traf(trun([1]), time=1 << 62)), b"trun", "out of range"),
    "samples in the same bytes": (
        INIT + moof(traf(trun([4], offset=200), trun([4], offset=201))),
        b"moof",
        "the same bytes",
    ),
    "base offsets of two kinds": (
        INIT + moof(traf(), traf(flags=1, extra=bytes(8))),
        b"tfhd",
        "both kinds",
    ),
    "samples before their mdat": (INIT + SHORT + MDAT, b"mdat", "outside"),
    "samples beyond their mdat": (INIT + LATE + MDAT, b"mdat", "beyond the end"),
    "samples in no mdat": (INIT + RIGHT + moof(), b"moof", "in no 'mdat'"),
    "a recorder before the samples": (INIT + RIGHT + FTYP, b"ftyp", "in no 'mdat'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_bytes_give_one_error_with_its_offset(case: str) -> None:
    """What is wrong is named, with the place, and alike whether the bytes come whole or one by one."""
    data, kind, reason = WRONG[case]
    events, error = outcome(data, len(data))
    assert error is not None
    assert data[error[0] + 4 : error[0] + 8] == kind
    assert reason in error[1]
    piece = 1 if len(data) < 10_000 else 997
    assert outcome(data, piece) == (events, error)


def test_what_came_before_the_error_is_not_lost() -> None:
    """Frames that were complete before the malformed box are in `salvaged`."""
    demuxer = Mp4Demuxer()
    with pytest.raises(MediaError):
        demuxer.feed(INIT + fragment(b"good") + b"\0\0\0\0\xff\xff\xff\xff")
    assert [bytes(frame.payload) for frame in frames_of(demuxer.salvaged)] == [b"good"]


def test_what_is_of_no_interest_is_passed_over() -> None:
    """Other boxes between fragments, other tracks, empty samples and bytes of no sample are no frames."""
    other = b"".join(encode(kind, b"body") for kind in (b"free", b"sidx", b"emsg", b"uuid", b"mfra", b"wxyz"))
    init = mp4_init(trak(1), trak(2, handler=b"text"), numbers=(1, 2))
    data = init + other + fragment(b"one", b"", b"two") + MDAT + encode(b"styp", b"msdh") + other
    at = len(data)
    data += fragment(b"words", track=2) + other + fragment(b"three", time=80)
    assert [bytes(frame.payload) for frame in frames_of(demux_mp4([data]))] == [b"one", b"two", b"three"]
    assert outcome(data, 1) == outcome(data, len(data))
    assert at - len(other) - 12 in {getattr(event, "offset", None) for event in demux_mp4([data])}


@given(
    recorded=st.sampled_from(MP4_CAPTURES),
    flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), min_size=1, max_size=6),
    piece=st.sampled_from([1, 7, 1000]),
)
@settings(max_examples=500, deadline=None)
def test_flipped_bits_give_events_or_a_media_error(
    recorded: Capture, flips: list[tuple[int, int]], piece: int
) -> None:
    """Whatever bits flip, only MediaError is raised, alike for all splits, and memory stays bounded."""
    data = bytearray(recorded.data()[:20_000])
    for position, mask in flips:
        data[position] ^= mask
    assert outcome(bytes(data), piece) == outcome(bytes(data), len(data))


@given(junk=st.binary(max_size=400), at=st.integers(0, 800), piece=st.sampled_from([1, 5, 10_000]))
@settings(max_examples=400, deadline=None)
def test_junk_gives_events_or_a_media_error(junk: bytes, at: int, piece: int) -> None:
    """Junk in the header, in a fragment or behind one never raises anything but MediaError."""
    good = INIT + fragment(bytes(50), b"two") + fragment(b"three", time=80)
    data = good[:at] + junk + good[at:]
    assert outcome(data, piece) == outcome(data, max(1, len(data)))


@given(
    kind=st.sampled_from([b"tfhd", b"tfdt", b"trun"]),
    flags=st.integers(0, 0xFFF),
    version=st.integers(0, 2),
    body=st.binary(max_size=60),
)
@settings(max_examples=400, deadline=None)
def test_any_fragment_gives_events_or_a_media_error(
    kind: bytes, flags: int, version: int, body: bytes
) -> None:
    """Boxes of a fragment with any content are frames or a MediaError."""
    inner = encode_full(kind, version, flags, body)
    data = INIT + moof(encode(b"traf", inner, traf(trun([3], offset=200))[8:])) + encode(b"mdat", bytes(300))
    assert outcome(data, 1) == outcome(data, len(data))
