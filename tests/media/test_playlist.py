"""The media playlist parser."""

from __future__ import annotations

import pytest

from ingestd.media.playlist import MediaPlaylist, Segment, parse_media_playlist

LIVE = """#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:17
#EXT-X-INDEPENDENT-SEGMENTS
#EXTINF:2.000000,
s1-000017.ts
#EXT-X-DISCONTINUITY
#EXTINF:1.966667,a title, with a comma
s1-000018.ts
"""


def test_a_live_window() -> None:
    """Segments have their sequence number, duration and name; tags that it does not know do not matter."""
    playlist = parse_media_playlist(LIVE)
    assert playlist.segments == (Segment(17, 2.0, "s1-000017.ts"), Segment(18, 1.966667, "s1-000018.ts"))
    assert playlist.last == playlist.segments[1]
    assert not playlist.ended


def test_an_ended_event() -> None:
    """ENDLIST ends it; without a MEDIA-SEQUENCE the first segment is number 0; CRLF is fine."""
    text = "#EXTM3U\r\n#EXTINF:4,\r\na.ts\r\n#EXTINF:3.5\r\nb.ts\r\n#EXT-X-ENDLIST\r\n"
    playlist = parse_media_playlist(text)
    assert [(s.sequence, s.duration, s.uri) for s in playlist.segments] == [
        (0, 4.0, "a.ts"),
        (1, 3.5, "b.ts"),
    ]
    assert playlist.ended


@pytest.mark.parametrize(
    ("text", "durations"),
    [
        ("", []),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n", []),
        ("#EXTINF:2.0,\n", []),
        ("#EXTINF:two,\na.ts\n", [0.0]),
        ("#EXTINF:nan,\na.ts\n#EXTINF:inf,\nb.ts\n", [0.0, 0.0]),
        ("#EXTINF:2,\na.ts\nb.ts\n", [2.0, 0.0]),
        ("#EXT-X-MEDIA-SEQUENCE:x\n#EXTINF:2,\na.ts\n", [2.0]),
    ],
)
def test_what_is_cut_short_or_broken(text: str, durations: list[float]) -> None:
    """A torn or odd playlist is read as far as it makes sense: no error, no number that is none."""
    playlist = parse_media_playlist(text)
    assert [segment.duration for segment in playlist.segments] == durations
    assert [segment.sequence for segment in playlist.segments] == list(range(len(durations)))


def test_an_empty_one_has_no_last_segment() -> None:
    """Nothing is listed: nothing is last."""
    assert MediaPlaylist().last is None
