"""The media playlist parser."""

from __future__ import annotations

import random

import pytest

from ingestd.media.playlist import (
    MediaPlaylist,
    Segment,
    cut_back,
    end_list,
    is_whole,
    parse_media_playlist,
)

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


def made_up(rng: random.Random) -> str:
    """A window or an event, of TS or fMP4, with discontinuities, dates and an end, or without."""
    first = rng.choice([0, 0, rng.randrange(1000)])
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    lines += ["#EXT-X-PLAYLIST-TYPE:EVENT"] * (first == 0) + ["#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += ['#EXT-X-MAP:URI="s1-init.mp4",BYTERANGE="1@0"'] * rng.randrange(2)
    for number in range(first, first + rng.randrange(8)):
        lines += ["#EXT-X-DISCONTINUITY"] * (rng.random() < 0.3)
        lines += [f"#EXTINF:{rng.uniform(0.5, 2):.6f},"]
        lines += ["#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:15:18Z"] * (rng.random() < 0.3)
        lines += [f"s1-{number:06}.ts"]
    lines += ["#EXT-X-ENDLIST"] * rng.randrange(2)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(40))
def test_cutting_back(seed: int) -> None:
    """What stays is what was there, line by line; numbers go on where it was cut; no end, no loose tags."""
    rng = random.Random(seed)
    text = made_up(rng)
    before = parse_media_playlist(text)
    last = rng.randrange(-1, before.following + 2)
    cut = cut_back(text, last)
    after = parse_media_playlist(cut)
    assert after.segments == tuple(s for s in before.segments if s.sequence <= last)
    assert (after.ended, after.init) == (False, before.init)
    first = before.following - len(before.segments)
    assert after.following == max(first, min(last + 1, before.following))
    lines = cut.splitlines()
    assert lines == [line for line in text.splitlines() if line in lines][: len(lines)]
    if after.segments:
        assert lines[-1] == after.segments[-1].uri
    else:
        assert not any(line.startswith(("#EXTINF", "#EXT-X-DISC", "#EXT-X-PROG")) for line in lines)
        assert f"#EXT-X-MEDIA-SEQUENCE:{first}" in lines
    assert is_whole(cut)
    assert cut_back(cut, last) == cut == cut_back(end_list(cut), last)
    assert parse_media_playlist(end_list(cut)).ended


@pytest.mark.parametrize("seed", range(10))
def test_what_a_full_disk_leaves_of_a_playlist(seed: int) -> None:
    """Emptied or cut inside a line, it is seen not to be whole; cut between two lines, it lists less."""
    text = made_up(random.Random(seed))
    assert is_whole(text)
    for size in range(len(text)):
        left = text[:size]
        if is_whole(left):
            assert left.endswith("\n")
            assert parse_media_playlist(left).following <= parse_media_playlist(text).following
