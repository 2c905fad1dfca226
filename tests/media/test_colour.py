"""What a container says of its colours, and what is known when it says nothing."""

from __future__ import annotations

import pytest

from ingestd.media.colour import Colour, parse, stated
from ingestd.media.frames import Kind, Track
from ingestd.media.normalise import normalise


@pytest.mark.parametrize(
    "colour",
    [Colour(), Colour(primaries=1, transfer=13, matrix=1, full=True), Colour(6, 6, 6), Colour(9, 16, 9)],
)
def test_what_is_written_is_read(colour: Colour) -> None:
    assert parse(colour.encode()) == colour


def test_what_is_left_open_is_unspecified() -> None:
    assert parse(b"") == Colour(primaries=2, transfer=2, matrix=2, full=False)
    assert parse(b"\x55\xb9\x81\x02") == Colour(full=True)


def test_longer_children_end_what_is_read() -> None:
    """MasteringMetadata's size has more than one byte at times; it holds none of this."""
    assert parse(Colour(matrix=6).encode() + b"\x55\xd0\x40\x02\0\0") == Colour(matrix=6)
    assert parse(b"\x55\xb1") == Colour()


def test_vp8_is_bt601_unless_its_container_says_otherwise() -> None:
    """RFC 6386, section 9.2: no frame of VP8 can say anything else."""
    assert parse(stated("vp8", b"")) == Colour(primaries=6, transfer=6, matrix=6)
    full = Colour(1, 13, 1, full=True).encode()
    assert stated("vp8", full) == full


@pytest.mark.parametrize("codec", ["vp9", "av1", "h264"])
def test_codecs_that_say_it_in_their_frames_are_left_alone(codec: str) -> None:
    assert stated(codec, b"") == b""


def test_colours_of_vp8_are_said() -> None:
    """BT.601's, which no frame of it can say, where the container does not either."""
    track = normalise(Track(number=1, kind=Kind.VIDEO, codec="vp8")).track
    assert track is not None
    assert parse(track.colour) == Colour(primaries=6, transfer=6, matrix=6)
