"""Telling the containers apart: by their bytes, at the beginning and when another recorder takes over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.errors import MediaError
from ingestd.media.demux import SniffingDemuxer, begins_container
from ingestd.media.frames import Event, Header, RecorderStart, SegmentStart
from ingestd.media.webm_demux import Demuxer
from tests.media.mp4_tools import demux_mp4, fragment, mp4_capture, mp4_init
from tests.media.tools import cluster, demux, frames_of, init, plain, simple
from tests.support.captures import capture

WEBM = init() + cluster(simple(b"one"), simple(b"two", relative=40))
MP4 = mp4_init() + fragment(b"three", b"four")


def sniff(*pieces: bytes) -> list[Event]:
    """All events of *pieces*."""
    demuxer = SniffingDemuxer()
    events = [event for piece in pieces for event in demuxer.feed(piece)]
    return plain(events + demuxer.close())


def test_each_container_goes_to_its_demuxer() -> None:
    """The events are those of the container's own demuxer."""
    webm, mp4 = capture("cv-vp8-restart.webm").data(), mp4_capture("cv-mp4avc-restart.mp4").data()
    assert sniff(webm) == plain(demux([webm]))
    assert sniff(mp4) == plain(demux_mp4([mp4]))


def test_webm_is_told_at_its_first_byte() -> None:
    """The byte 0x1A is enough; MP4 needs the eight bytes of a box's head."""
    assert SniffingDemuxer().feed(b"\x1a") == [RecorderStart(0)]
    demuxer = SniffingDemuxer()
    assert demuxer.feed(MP4[:7]) == []
    assert demuxer.pending == 7
    assert demuxer.feed(MP4[7:8]) == [RecorderStart(0)]


@given(st.lists(st.sampled_from([WEBM, MP4]), min_size=1, max_size=5), st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=300, deadline=None)
def test_recorders_of_any_container_follow_each_other(recorders: list[bytes], cuts: list[float]) -> None:
    """Each is told at its first byte's offset, with its frames, however the bytes are cut."""
    data = b"".join(recorders)
    edges = sorted({int(cut * len(data)) for cut in cuts} | {0, len(data)})
    events = sniff(*(data[begin:end] for begin, end in pairwise(edges)))
    assert events == sniff(data)
    starts = [sum(map(len, recorders[:count])) for count in range(len(recorders))]
    for kind in (RecorderStart, Header):
        assert [event.offset for event in events if isinstance(event, kind)] == starts
    segments = [event.offset for event in events if isinstance(event, SegmentStart)]
    assert all(
        data[at : at + 4] == b"\x1f\x43\xb6\x75" or data[at + 4 : at + 8] == b"moof" for at in segments
    )
    payloads = {WEBM: [b"one", b"two"], MP4: [b"three", b"four"]}
    expected = [payload for recorder in recorders for payload in payloads[recorder]]
    assert [frame.payload for frame in frames_of(events)] == expected


def test_another_container_begins_where_the_error_would_be() -> None:
    """A box of another type behind WebM is what it always was: malformed WebM, with the same error."""
    for junk in (b"\0\0\0\x08moof", b"\0" * 9, b"\0\0\0\x08ftyq"):
        with pytest.raises(MediaError) as expected:
            Demuxer().feed(WEBM + junk)
        for piece in (1, 1000):
            with pytest.raises(MediaError) as error:
                sniff(*((WEBM + junk)[at : at + piece] for at in range(0, len(WEBM + junk), piece)))
            assert str(error.value) == str(expected.value)


def test_an_errors_offset_counts_from_the_first_byte() -> None:
    """Also in a later recorder's container; what came before it is in `salvaged`."""
    demuxer = SniffingDemuxer()
    with pytest.raises(MediaError) as error:
        demuxer.feed(WEBM + MP4 + b"\0\0\0\x04free")
    assert error.value.offset == len(WEBM + MP4)
    assert len(frames_of(demuxer.salvaged)) == 4
    with pytest.raises(MediaError) as again:
        demuxer.feed(b"more")
    assert again.value is error.value
    assert (demuxer.pending, demuxer.close()) == (0, [])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"OggS\0\2\0\0", "Ogg"),
        (b"FLV\1\5\0\0\0\t", "FLV"),
        (b"RIFF\0\0\0\0WEBP", "RIFF"),
        (b"\0\0\0\1\x67\x42\0\x1f", "raw H.264"),
        (b"\x47\x40\0\x10\0\0\0\0", "MPEG transport stream"),
        (b'{"type": "start"}', "JSON"),
        (b"GET / HTTP/1.1\r\n", "HTTP request"),
        (b"<!doctype html>", "HTML"),
        (b"hello there", "text"),
        (b"\0\0\0\x08moovXXXX", "begins with 'moov'"),
        (b"\0\0\0\x08wideXXXX", "begins with 'wide'"),
        (b"\1\2\3\4\5\6\7\x08\x09", "01 02 03 04"),
    ],
)
def test_what_is_no_container_is_named(data: bytes, named: str) -> None:
    """The error says what was expected, and what the bytes look like, once eight are there."""
    demuxer = SniffingDemuxer()
    assert demuxer.feed(data[:7]) == []
    with pytest.raises(MediaError, match="expected WebM, Matroska or fragmented MP4") as error:
        demuxer.feed(data[7:])
    assert named in error.value.reason
    assert error.value.offset == 0


def test_a_new_recorders_message_is_known_by_itself() -> None:
    """By its first bytes, if they are all there."""
    for data, begins in ((WEBM, True), (MP4, True), (WEBM[:3], False), (MP4[:7], False), (MP4[20:], False)):
        assert begins_container(data) == begins


def test_an_mp4_in_one_piece_is_refused_with_its_reason() -> None:
    """Where ftyp is there but no fragments, the MP4 demuxer says so."""
    with pytest.raises(MediaError, match="not a fragmented MP4"):
        SniffingDemuxer().feed(MP4[:20] + b"\0\0\0\x10mdat" + bytes(8))


def test_the_end() -> None:
    """Waiting frames come, the incomplete rest is counted, and nothing can be fed any more."""
    for data, dropped in ((WEBM + WEBM[:3], 3), (MP4[:-2], 2), (b"\0\0", 2), (WEBM + MP4[:3], 3)):
        demuxer = SniffingDemuxer()
        demuxer.feed(data)
        assert demuxer.truncated == 0
        demuxer.close()
        assert demuxer.truncated == dropped
        with pytest.raises(ValueError, match="after close"):
            demuxer.feed(b"")
