"""Spool, intake and replay: the journal gives the very frames that went out live."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from ingestd.config import JournalConfig
from ingestd.errors import MediaError
from ingestd.live.batch import Mark
from ingestd.live.hub import Hub
from ingestd.live.journal import JournalFull
from ingestd.live.spool import Spool
from ingestd.media.frames import NS_PER_MS, Frame
from ingestd.media.webm_mux import Muxer
from tests.live.tools import AUDIO, VIDEO, Seen, WitnessedHub, drain, feed, hub_config, seen, spool
from tests.media.tools import cluster, init, simple
from tests.support.captures import Capture, captures
from tests.support.captures import capture as load

pytestmark = pytest.mark.usefixtures("bare_frames")

every_capture = pytest.mark.parametrize("capture", captures(webm_only=False), ids=lambda each: each.name)


def record(hub: Hub) -> list[Seen]:
    """What was and will be published."""
    assert isinstance(hub, WitnessedHub)
    return hub.live


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """*data* cut anywhere."""
    cuts = sorted({0, len(data), *(rng.randrange(1, len(data)) for _ in range(rng.choice([5, 50, 300])))})
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


def assert_monotonic(frames: Sequence[Seen]) -> None:
    last: dict[int, int] = {}
    for _, _, track, timestamp, _, _ in frames:
        assert timestamp > last.get(track, -1)
        last[track] = timestamp


async def replay(made: Spool, mark: Mark) -> list[Seen]:
    """All that the journal gives from *mark* on."""
    assert made.hub.replay is not None
    reader = made.hub.replay.read(mark)
    frames: list[Seen] = []
    while (batch := await reader.next()) is not None:
        frames += seen(batch)
    return frames


@every_capture
async def test_from_every_mark_the_same_frames(tmp_path: Path, capture: Capture) -> None:
    """From each random access point on, the replay has the live frames, in every respect."""
    async with spool(tmp_path) as made:
        marks: list[Mark] = []
        live = record(made.hub)
        for chunk in capture.chunks():
            await made.take(chunk)
        marks = list(made.hub._marks)
        assert marks
        assert len(live) > 50
        assert live[0][0] == marks[0].seq == 0
        for mark in marks[:: max(1, len(marks) // 40)]:
            assert await replay(made, mark) == live[mark.seq :]
            assert live[mark.seq][3] == mark.timestamp
            assert live[mark.seq][1] is mark.configuration


@every_capture
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_journal_subscription_misses_nothing(tmp_path: Path, capture: Capture, seed: int) -> None:
    """However chunks are cut, however small the window and slow the reader: every frame, once, in order."""
    rng = random.Random(seed)
    async with spool(tmp_path, hub=hub_config(memory=rng.choice([1, 20_000, 200_000]))) as made:
        live = record(made.hub)
        chunks = pieces(capture.data(), rng)
        got: list[Seen] = []

        async def reader(mark: Mark | None) -> None:
            with made.hub.subscribe("journal", mark) as subscription:
                while True:
                    with trio.move_on_after(rng.choice([0.0, 0.0005, 1])):
                        try:
                            got.extend(seen(await subscription.receive()))
                        except trio.EndOfChannel:
                            assert subscription.statistics().dropped == 0
                            return
                    for _ in range(rng.choice([0, 0, 1, 5, 20])):
                        await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            started = False
            for chunk in chunks:
                await made.take(chunk)
                if not started and (mark := made.hub.oldest_mark()):
                    started = True
                    nursery.start_soon(reader, mark)
                await made.trim()
            made.hub.end()
        assert got == live


async def test_the_second_recorder_follows_on_the_timeline(tmp_path: Path) -> None:
    """Two recorders, each from zero, are one timeline that never goes back, in two files of the journal."""
    capture = load("cv-vp8-restart.webm")
    async with spool(tmp_path) as made:
        live = record(made.hub)
        await feed(made, capture.chunks())
        assert made.journal is not None
        first, second = capture.recorders()
        assert [file.path.read_bytes() for file in made.journal.recorders] == [first, second]
        assert_monotonic(live)
        change = next(i for i, frame in enumerate(live) if frame[1] is not live[0][1] or i == len(live) - 1)
        times = [frame[3] for frame in live]
        assert max(b - a for a, b in itertools.pairwise(times)) < 1000 * NS_PER_MS
        assert change > 0


LIFE = (VIDEO, AUDIO)


def life(
    start: int, end: int, *, first_key: int | None = None, audio_from: int | None = None, mark: bytes = b""
) -> bytes:
    """An encoder's life: video each 40 ms, a keyframe each 400 ms, audio each 20 ms, in place already."""
    muxer = Muxer(LIFE, doc_type="matroska")
    out = [muxer.header()]
    key_at = start if first_key is None else first_key
    for time in range(min(start, audio_from if audio_from is not None else start), end, 20):
        frames = []
        if time % 40 == 0 and time >= start:
            key = time == key_at or (time > key_at and time % 400 == 0)
            frames.append(Frame(1, time * NS_PER_MS, key, b"v%d" % time + mark))
        frames.append(Frame(2, time * NS_PER_MS, True, b"a%d" % time + mark))
        out.append(muxer.mux(frames))
    return b"".join(out)


async def test_an_encoder_life_cut_mid_cluster_and_the_next(tmp_path: Path) -> None:
    """A life that ends inside a cluster, then another: one configuration, no overlap, the same in replay."""
    for cut in (1, 7, 30, 41):
        directory = tmp_path / str(cut)
        directory.mkdir()
        async with spool(directory, name="program") as made:
            live = record(made.hub)
            await made.begin()
            await feed(made, pieces(life(0, 2000)[:-cut], random.Random(cut)))
            ended = {frame[2]: frame[3] for frame in live}
            await made.begin()
            resume = ended[1] // NS_PER_MS + 40
            await feed(
                made, pieces(life(resume, 4000, audio_from=resume - 60, mark=b"-2"), random.Random(cut))
            )
            assert_monotonic(live)
            assert {frame[1] for frame in live} == {live[0][1]}
            video = [frame[3] // NS_PER_MS for frame in live if frame[2] == 1]
            assert video == list(range(0, 4000, 40))
            resumed = next(frame for frame in live if frame[5].startswith(b"v") and frame[5].endswith(b"-2"))
            assert resumed[4]
            for mark in made.hub._marks:
                assert await replay(made, mark) == live[mark.seq :]


async def test_a_life_whose_keyframe_overlaps_waits_for_its_next(tmp_path: Path) -> None:
    """When the first keyframe of a life is already there, its deltas are of no use until the next one."""
    async with spool(tmp_path, name="program") as made:
        live = record(made.hub)
        await made.begin()
        await made.take(life(0, 1000))
        await made.begin()
        await made.take(life(960, 2000, mark=b"-2"))
        second = [frame for frame in live if frame[5].startswith(b"v") and frame[5].endswith(b"-2")]
        assert second[0][3] // NS_PER_MS == 1200
        assert second[0][4]
        assert_monotonic(live)
        for mark in made.hub._marks:
            assert await replay(made, mark) == live[mark.seq :]


async def test_garbage_of_one_life_does_not_reach_the_next(tmp_path: Path) -> None:
    """A life that is no container fails by itself: what follows is live, and replayable."""
    async with spool(tmp_path, name="program") as made:
        live = record(made.hub)
        await made.begin()
        with pytest.raises(MediaError):
            await made.take(b"ffmpeg: error while loading shared libraries")
        await made.begin()
        await feed(made, pieces(life(0, 1000), random.Random(3)))
        await made.begin()
        with pytest.raises(MediaError):
            await made.take(b"not again")
        await made.begin()
        await made.take(life(1000, 2000))
        assert [frame[3] // NS_PER_MS for frame in live if frame[2] == 1] == list(range(0, 2000, 40))
        for mark in made.hub._marks:
            assert await replay(made, mark) == live[mark.seq :]


async def test_what_comes_before_malformed_bytes_is_published(tmp_path: Path) -> None:
    """Malformed bytes end the container; the frames before them in the same chunk are live and replayable."""
    async with spool(tmp_path) as made:
        live = record(made.hub)
        good = init() + cluster(simple(b"one"), simple(b"two", relative=40, flags=0))
        with pytest.raises(MediaError):
            await made.take(good + b"\x00\x00\x00 what is this")
        assert [frame[5] for frame in live] == [b"one", b"two"]
        assert made.journal is not None
        assert made.journal.recorders[0].path.read_bytes().startswith(good)
        mark = made.hub.oldest_mark()
        assert mark is not None
        assert await replay(made, mark) == live
        with pytest.raises(MediaError):
            await made.take(b"more")
        assert len(live) == 2


async def test_a_second_recorder_and_then_malformed_bytes_in_one_chunk(tmp_path: Path) -> None:
    """A second recorder's file begins at its first byte even if the chunk is malformed behind it."""
    first = init() + cluster(simple(b"one"))
    second = init() + cluster(simple(b"two"))
    async with spool(tmp_path) as made:
        with pytest.raises(MediaError):
            await made.take(first + second + bytes(16))
        assert made.journal is not None
        assert [file.path.read_bytes() for file in made.journal.recorders] == [first, second + bytes(16)]


async def test_audio_before_the_first_picture_is_discarded_and_counted(tmp_path: Path) -> None:
    """A timeline begins with its first random access point; what came before it is discarded, and counted."""
    muxer = Muxer(LIFE, doc_type="matroska")
    frames = [Frame(2, t * NS_PER_MS, True, b"a") for t in range(0, 100, 20)]
    frames += [Frame(1, 100 * NS_PER_MS, True, b"v"), Frame(2, 120 * NS_PER_MS, True, b"b")]
    async with spool(tmp_path) as made:
        live = record(made.hub)
        await made.take(muxer.header() + muxer.mux(frames))
        assert [frame[5] for frame in live] == [b"v", b"b"]
        assert [frame[3] for frame in live] == [0, 20 * NS_PER_MS]
        assert made.statistics()["discarded_frames"] == 5


async def test_another_recorder_with_other_tracks_changes_the_configuration(tmp_path: Path) -> None:
    """Video and sound, then sound only: the configuration changes with the first frame of the second."""
    one = Muxer(LIFE, doc_type="matroska")
    two = Muxer((AUDIO,), doc_type="matroska")
    async with spool(tmp_path, hub=hub_config(memory=1)) as made:
        live = record(made.hub)
        mark_frames = [Frame(1, 0, True, b"v"), Frame(2, 0, True, b"a")]
        await made.take(one.header() + one.mux(mark_frames))
        await made.take(two.header() + two.mux([Frame(2, 0, True, b"b")]))
        await made.take(two.mux([Frame(2, 20 * NS_PER_MS, True, b"c")]))
        made.hub.end()
        assert [len(frame[1].tracks) for frame in live] == [2, 2, 1, 1]
        assert live[2][1] is live[3][1]
        assert await drain(made.hub.subscribe("journal", made.hub.oldest_mark())) == live


async def test_full_journal_under_end(tmp_path: Path) -> None:
    """Under `end` the chunk that does not fit is refused: neither published nor kept."""
    chunks = load("cv-vp8-250.webm").chunks()
    fits = sum(map(len, chunks[:5]))
    async with spool(tmp_path, max_size=fits) as made:
        await feed(made, chunks[:5])
        published = made.hub.next_seq
        with pytest.raises(JournalFull, match=r"journal\.max_size"):
            await made.take(chunks[5])
        assert made.hub.next_seq == published
        assert made.journal is not None
        assert made.journal.recorders[0].path.stat().st_size == fits
        assert "journal.max_size" in str(made.statistics()["journal_error"])


async def test_full_journal_under_continue(tmp_path: Path) -> None:
    """Under `continue` frames flow on; a slow reader gets what the journal has, and counts what it misses."""
    data = life(0, 8000)
    chunks = [data[at : at + 200] for at in range(0, len(data), 200)]
    most = len(chunks) * 2 // 3
    fits = sum(map(len, chunks[:most]))
    config = JournalConfig(on_full="continue")
    async with spool(tmp_path, max_size=fits, config=config, keep=True, hub=hub_config(memory=400)) as made:
        live = record(made.hub)
        await feed(made, chunks[:3])
        subscription = made.hub.subscribe("journal", made.hub.oldest_mark())
        await feed(made, chunks[3:most])
        journaled = made.hub.next_seq
        await feed(made, chunks[most:])
        assert made.lost.is_set()
        assert made.hub.next_seq == len(live)
        made.hub.end()
        assert made.journal is not None
        assert made.journal.recorders[0].path.read_bytes() == b"".join(chunks[:most])
        got = await drain(subscription)
        assert got[:journaled] == live[:journaled]
        assert len(got) + subscription.dropped == len(live)
        assert got[journaled:] == live[-len(got[journaled:]) :]
        assert got[journaled:]
        assert got[journaled][4]


async def test_a_reader_that_is_too_old_is_cut_off(tmp_path: Path) -> None:
    """What is older than max_age is given back even if someone still wants it, who then counts the loss."""
    payload = random.Random(1).randbytes(300_000)
    muxer = Muxer((VIDEO,), doc_type="matroska")
    config = JournalConfig(max_age=10.0)
    async with spool(tmp_path, config=config, hub=hub_config(memory=1)) as made:
        live = record(made.hub)
        await made.take(muxer.header() + muxer.mux([Frame(1, 0, True, payload)]))
        slow = made.hub.subscribe("journal", made.hub.oldest_mark())
        reading = made.hub.subscribe("journal", made.hub.oldest_mark())
        for second in range(1, 40):
            await made.take(muxer.mux([Frame(1, second * 10**9, second % 2 == 0, payload)]))
            if second == 20:
                assert len(seen(await reading.receive())) == 1
        path = tmp_path / "source-0001.media"
        before = path.stat().st_blocks
        await made.trim()
        assert path.stat().st_blocks < before - 20 * 300_000 / 512
        made.hub.end()
        for subscription in (slow, reading):
            got = await drain(subscription)
            rest = [frame for frame in got if frame[0] > 8]
            assert rest == live[-len(rest) :]
            assert 10 <= len(rest) <= 18
            assert subscription.delivered + subscription.dropped == 40


async def test_trim_keeps_what_readers_want(tmp_path: Path) -> None:
    """Behind the slowest reader's random access point the disk is given back, and not an inch further."""
    payload = random.Random(1).randbytes(500_000)
    muxer = Muxer((VIDEO,), doc_type="matroska")
    async with spool(tmp_path, hub=hub_config(memory=1)) as made:
        live = record(made.hub)
        await made.take(muxer.header() + muxer.mux([Frame(1, 0, True, payload)]))
        subscription = made.hub.subscribe("journal", made.hub.oldest_mark())
        for second in range(1, 30):
            await made.take(muxer.mux([Frame(1, second * 10**9, second % 2 == 0, payload)]))
        got = []
        assert made.journal is not None
        kept = made.journal.kept_bytes
        await made.trim()
        assert made.journal.kept_bytes == kept
        for _ in range(15):
            got += seen(await subscription.receive())
            await made.trim()
        assert made.journal.kept_bytes < kept - 4_000_000
        made.hub.end()
        assert got + await drain(subscription) == live
        oldest = made.hub.oldest_mark()
        assert oldest is not None
        assert await replay(made, oldest) == live[oldest.seq :]


async def test_nothing_of_a_kept_journal_is_given_back(tmp_path: Path) -> None:
    """A journal that is a recording keeps every byte."""
    payload = bytes(2**20)
    muxer = Muxer((VIDEO,), doc_type="matroska")
    async with spool(tmp_path, hub=hub_config(memory=1), keep=True) as made:
        await made.take(muxer.header())
        for second in range(8):
            await made.take(muxer.mux([Frame(1, second * 10**9, True, payload)]))
        await made.trim()
        assert made.journal is not None
        assert made.journal.kept_bytes == made.journal.size


async def test_h264_changes_its_size_in_band(tmp_path: Path) -> None:
    """Annex B whose picture changes size: a new configuration exactly at a keyframe, in the replay too."""
    async with spool(tmp_path) as made:
        live = record(made.hub)
        await feed(made, load("gum-h264webm-resize.mkv").chunks())
        changes = [b for a, b in itertools.pairwise(live) if a[1] is not b[1]]
        assert changes
        for frame in changes:
            assert frame[4]
            assert frame[1].video is not None
            assert frame[2] == frame[1].video.number
        sizes = {(video.width, video.height) for f in live if (video := f[1].video)}
        assert len(sizes) == len(changes) + 1
