"""The follower of a writer's playlist: where it ends on the timeline, and whether it moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ingestd.live.playlist import PlaylistFollower
from ingestd.media.frames import NS_PER_MS, NS_PER_S


class Playlist:
    """A playlist as FFmpeg writes it: whole, by a rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, first: int, durations: list[float], stem: str = "s1") -> None:
        text = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        for number, duration in enumerate(durations, first):
            text += f"#EXTINF:{duration:.6f},\n{stem}-{number:06}.ts\n"
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.path)


@pytest.fixture
def playlist(tmp_path: Path) -> Playlist:
    return Playlist(tmp_path / "index.m3u8")


async def follower(playlist: Playlist) -> PlaylistFollower:
    return PlaylistFollower(playlist.path, "s1", 5.0)


async def test_before_anything_is_there(playlist: Playlist, mock_clock: MockClock) -> None:
    """Without an attempt there is no end; without a playlist the end is the attempt's first frame."""
    made = await follower(playlist)
    await made.refresh()
    assert made.end() is None
    await made.begin(7 * NS_PER_S)
    assert made.end() == 7 * NS_PER_S
    assert made.last is None


async def test_the_end_is_the_sum_since_the_attempt_began(playlist: Playlist, mock_clock: MockClock) -> None:
    """What is listed since the attempt began, added to its first frame, also after segments are removed."""
    made = await follower(playlist)
    await made.begin(100 * NS_PER_MS)
    playlist.write(0, [2.0, 1.966667])
    await made.refresh()
    assert made.end() == 4_066_667_000
    playlist.write(1, [1.966667, 2.033333, 2.0])
    await made.refresh()
    assert made.end() == 8_100 * NS_PER_MS
    assert made.last is not None
    assert made.last.sequence == 3


async def test_a_second_attempt_counts_from_its_own_start(playlist: Playlist, mock_clock: MockClock) -> None:
    """After a restart, what an earlier attempt listed counts no more: the new base has it."""
    made = await follower(playlist)
    await made.begin(0)
    playlist.write(0, [2.0, 2.0, 2.0])
    await made.begin(6 * NS_PER_S)
    assert made.end() == 6 * NS_PER_S
    playlist.write(1, [2.0, 2.0, 3.0, 3.0])
    await made.refresh()
    assert made.end() == 12 * NS_PER_S


async def test_an_older_sessions_playlist_is_not_ours(playlist: Playlist, mock_clock: MockClock) -> None:
    """Segments of another session are neither counted nor taken for the last."""
    playlist.write(40, [2.0, 2.0], stem="s0")
    made = await follower(playlist)
    await made.begin(0)
    assert made.last is None
    playlist.write(0, [2.0])
    await made.refresh()
    assert made.end() == 2 * NS_PER_S


async def test_segments_that_came_and_went_between_two_looks(
    playlist: Playlist, mock_clock: MockClock
) -> None:
    """Segments that are listed and removed faster than anyone looks count as long as the others."""
    made = await follower(playlist)
    await made.begin(0)
    playlist.write(0, [2.0, 2.0, 2.0])
    await made.refresh()
    playlist.write(30, [2.0, 2.0, 2.0])
    await made.refresh()
    assert made.end() == 66 * NS_PER_S


async def test_a_playlist_that_stands_still_is_stale(playlist: Playlist, autojump_clock: MockClock) -> None:
    """It is stale when it has not changed for longer than it may, since the attempt began."""
    made = await follower(playlist)
    await trio.sleep(100)
    await made.begin(0)
    assert made.stale() is None
    await trio.sleep(5)
    assert made.stale() is None
    await trio.sleep(1)
    assert made.stale() == "stalled: the playlist has not changed for 6 s"
    playlist.write(0, [2.0])
    await made.refresh()
    assert made.stale() is None


async def test_it_follows(playlist: Playlist) -> None:
    """While it follows, a new segment is seen without being asked for."""
    made = await follower(playlist)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.follow)
        playlist.write(0, [2.0])
        while made.last is None:  # noqa: ASYNC110
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
