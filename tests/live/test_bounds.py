"""Bounds on what one publisher, or one reader, can cost everybody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from ingestd.config import JournalConfig
from ingestd.errors import MediaError
from ingestd.live.child import Watch
from ingestd.live.playlist import PlaylistFollower
from ingestd.media.frames import NS_PER_MS, Frame
from ingestd.media.webm_mux import Muxer
from tests.live.tools import AUDIO, VIDEO, at_hand, feed, hub_config, spool


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def large_stream(frames: int) -> list[bytes]:
    """A recording of *frames* frames of 20 kB, every tenth a keyframe, one chunk each."""
    muxer = Muxer((VIDEO,))
    pictures = [Frame(1, n * 33 * NS_PER_MS, n % 10 == 0, bytes(20_000)) for n in range(frames)]
    return [muxer.header(), *(muxer.mux([picture]) for picture in pictures)]


pytestmark = pytest.mark.usefixtures("bare_frames")


async def test_a_flood_of_recorders_ends_the_session(tmp_path: Path) -> None:
    """More containers than a session may have are refused by name; those before them are kept."""
    head = Muxer((VIDEO, AUDIO)).header()
    async with spool(tmp_path, config=JournalConfig(max_recorders=20)) as made:
        with pytest.raises(MediaError, match=r"more than 20 recorders \(journal\.max_recorders\)"):
            await made.take(head * 5000)
        assert made.journal is not None
        assert len(made.journal.recorders) == 20


async def test_recorders_cost_no_descriptors(tmp_path: Path) -> None:
    """However many recorders a session has seen, one file is open, and all can be read."""
    head = Muxer((VIDEO, AUDIO)).header()
    async with spool(tmp_path) as made:
        assert made.journal is not None
        await made.take(head)
        before = open_descriptors()
        for _ in range(30):
            await made.take(head)
        assert open_descriptors() == before
        assert await made.journal.read(0, 0, 2**20) == head


async def test_a_journal_at_its_bound_gives_up_its_oldest(tmp_path: Path) -> None:
    """A reader that lags further than max_size loses the oldest part, counted; the session goes on."""
    chunks = large_stream(400)
    async with spool(tmp_path, max_size=3 * 2**20, hub=hub_config(memory=1)) as made:
        await feed(made, chunks[:2])
        slow = made.hub.subscribe("journal", made.hub.oldest_mark())
        await feed(made, chunks[2:])
        assert made.journal is not None
        assert made.journal.kept_bytes <= 3 * 2**20
        assert made.journal_error is None
        made.hub.end()
        got = [frame for batch in await at_hand(slow) for frame in batch.frames]
        assert slow.dropped > 0
        assert len(got) + slow.dropped == made.hub.next_seq


async def test_what_is_held_stays_in_the_journal(tmp_path: Path) -> None:
    """Between two attempts nobody subscribes, and still what the next one needs is not given back."""
    async with spool(tmp_path, hub=hub_config(memory=1)) as made:
        assert made.journal is not None
        await feed(made, large_stream(200))
        held = made.hub.oldest_mark()
        assert held is not None

        def needed() -> int:
            return held.seq

        made.hub.hold(needed)
        await made.trim()
        assert made.journal.kept_bytes == made.journal.size
        made.hub.release(needed)
        await made.trim()
        assert made.journal.kept_bytes < made.journal.size


async def test_a_target_may_take_its_time_to_answer_once(mock_clock: MockClock) -> None:
    """Until its first output a child has its sink's patience beyond the stall timeout, afterwards not."""
    watch = Watch(2.0, 10.0)
    watch.blocked(0.0)
    for seconds, stalled in ((11.0, False), (2.0, True)):
        mock_clock.jump(seconds)
        assert bool(watch.stalled()) is stalled
    watch.advanced()
    watch.blocked(mock_clock.current_time())
    mock_clock.jump(2.5)
    assert watch.stalled() == "stalled: took no input for 2 s"


async def test_numbering_goes_on_where_an_emptied_playlist_ended(tmp_path: Path) -> None:
    """On a full disk FFmpeg empties the playlist: the next attempt must not write over served segments."""
    path = tmp_path / "index.m3u8"
    follower = PlaylistFollower(path, "now", 10.0)
    await follower.begin(0)
    assert follower.next_number == 0
    path.write_text("#EXTM3U\n#EXTINF:2,\nnow-000000.ts\n#EXTINF:2,\nnow-000001.ts\n")
    await follower.refresh()
    path.write_text("")
    await follower.begin(4_000_000_000)
    assert follower.next_number == 2
