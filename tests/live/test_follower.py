"""How far a playlist has got on the program's timeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.live.playlist import PlaylistFollower
from ingestd.media.frames import NS_PER_S


def write(path: Path, first: int, durations: list[float], stem: str = "now") -> None:
    lines = ["#EXTM3U", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number, seconds in enumerate(durations, first):
        lines += [f"#EXTINF:{seconds:.6f},", f"{stem}-{number:06}.ts"]
    path.write_text("\n".join(lines) + "\n")


async def test_the_end_is_the_first_frame_plus_all_that_was_listed_since(tmp_path: Path) -> None:
    """Segments count once, also when they have left the window; other sessions' never."""
    path = tmp_path / "index.m3u8"
    follower = PlaylistFollower(path, "now", 10.0)
    assert follower.end() is None
    write(path, 40, [2.0, 2.0], stem="before")
    await follower.begin(7 * NS_PER_S)
    assert follower.end() == 7 * NS_PER_S
    assert follower.last is None
    for first, durations in ((0, [2.0]), (0, [2.0, 1.5]), (1, [1.5, 2.0])):
        write(path, first, durations)
        await follower.refresh()
    assert follower.end() == round(12.5 * NS_PER_S)


async def test_a_resumed_attempt_counts_from_its_own_first_segment(tmp_path: Path) -> None:
    """What an earlier attempt listed is behind the new attempt's first frame."""
    path = tmp_path / "index.m3u8"
    follower = PlaylistFollower(path, "now", 10.0)
    await follower.begin(0)
    write(path, 0, [2.0, 2.0])
    await follower.refresh()
    await follower.begin(4 * NS_PER_S)
    write(path, 0, [2.0, 2.0, 1.0])
    await follower.refresh()
    assert follower.end() == 5 * NS_PER_S


async def test_segments_that_came_and_went_unseen_are_counted_as_long_as_their_successor(
    tmp_path: Path,
) -> None:
    """A writer that catches up is faster than the looks at its playlist."""
    path = tmp_path / "index.m3u8"
    follower = PlaylistFollower(path, "now", 10.0)
    await follower.begin(0)
    write(path, 3, [2.0, 2.0])
    await follower.refresh()
    end = follower.end()
    assert end is not None
    assert end / NS_PER_S == pytest.approx(10.0)
