"""A spool that another process left: it goes on as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest

from ingestd.errors import MediaError
from ingestd.live.journal import Journal
from ingestd.live.journal_index import INDEX_RECORD, IndexUnreadable
from ingestd.media.frames import NS_PER_MS, Frame, Header, SegmentStart
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer
from tests.live.test_replay import every_capture, pieces, record
from tests.live.tools import AUDIO, VIDEO, Seen, acknowledged, drain, feed, hub_config, journal_writer, spool
from tests.support.captures import Capture
from tests.support.captures import capture as load

pytestmark = pytest.mark.usefixtures("bare_frames")


def plain(frames: list[Seen]) -> list[tuple[object, ...]]:
    """*frames* without the configurations' identity: another process has other objects."""
    return [(seq, c.tracks, track, at, key, payload) for seq, c, track, at, key, payload in frames]


@every_capture
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_timeline_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, capture: Capture, seed: int
) -> None:
    rng = random.Random(seed)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    recorders = [pieces(data, rng) for data in capture.recorders()]
    chunks = list(itertools.chain.from_iterable(recorders))
    async with spool(whole) as made:
        await feed(made, chunks)
        expected = plain(record(made.hub))
    assert len(expected) > 50
    got: dict[int, tuple[object, ...]] = {}
    cuts = sorted({0, len(chunks), *(rng.randrange(len(chunks)) for _ in range(4))})
    for again, (begin, end) in enumerate(itertools.pairwise(cuts)):
        small = hub_config(memory=rng.choice([1, 50_000, 2**25]))
        async with spool(cut, hub=small, again=bool(again)) as made:
            if again:
                await made.restore()
            for chunk in chunks[begin:end]:
                await made.take(chunk)
                if rng.random() < 0.3:
                    await made.trim()
            live = record(made.hub)
            for frame in plain(live):
                assert got.setdefault(frame[0], frame) == frame  # type: ignore[arg-type]
            # What the journal still has can be read back from every mark.
            for mark in list(made.hub.marks())[:: max(1, len(list(made.hub.marks())) // 5)]:
                if mark.position is None:
                    continue
                assert made.hub.replay is not None
                reader, replayed = made.hub.replay.read(mark), 0
                while (batch := await reader.next()) is not None:
                    replayed += len(batch.frames)
                assert mark.seq + replayed == made.hub.next_seq
    assert [got[seq] for seq in sorted(got)] == expected


async def test_a_program_goes_on_with_its_lives(tmp_path: Path) -> None:
    """What a life's join was is remembered: one that continues needs no keyframe, before and after."""
    pictures = [Frame(1, n * 33 * NS_PER_MS, n % 30 == 0, b"x%d" % n) for n in range(100)]
    first, second, third = (Muxer((VIDEO, AUDIO)) for _ in range(3))
    lives = [
        first.header() + first.mux(pictures[:40]),
        second.header() + second.mux(pictures[30:70]),
        third.header() + third.mux(pictures[60:]),
    ]
    expected = [frame.timestamp for frame in pictures]
    for again in (1, 2, 3):
        directory = tmp_path / str(again)
        directory.mkdir()
        async with spool(directory, name="program") as made:
            for number, life in enumerate(lives[:again]):
                await made.begin("continues" if number else "follows")
                await made.take(life)
        async with spool(directory, name="program", again=True) as made:
            await made.restore()
            assert made.origin == 0
            for life in lives[again:]:
                await made.begin("continues")
                await made.take(life)
            made.end()
            assert [at for _, _, _, at, _, _ in record(made.hub)] == expected


async def test_a_recorder_rejoins_after_a_loss(tmp_path: Path) -> None:
    """What was lost stays a gap of its own length, in this life of the daemon and in the next."""
    data = load("cv-vp8-250.webm").recorders()[0]
    demuxer = Demuxer()
    events = demuxer.feed(data)
    header = next(event for event in events if isinstance(event, Header))
    frames = [event for event in events if isinstance(event, Frame)]
    marks = [event.offset for event in events if isinstance(event, SegmentStart)]
    lost, back = marks[len(marks) // 3], marks[2 * len(marks) // 3]
    assert header.size < lost < back < len(data)
    async with spool(tmp_path) as made:
        await made.take(data[:lost])
        await made.rejoin()
        await made.take(data[back:], begins=False)
        made.hub.end()
        live = plain(record(made.hub))
        assert made.journal is not None
        files = [file.path.read_bytes() for file in made.journal.recorders]
        assert files == [data[:lost], data[: header.size] + data[back:]]
    shown = {at for _, _, _, at, _, _ in live}
    offset = frames[0].timestamp
    missing = [frame.timestamp - offset for frame in frames if frame.timestamp - offset not in shown]
    assert missing
    gap = sorted(at for at in shown if at > max(missing))
    assert gap, "nothing came after the loss"
    # Each frame after it is where it would have been.
    assert shown <= {frame.timestamp - offset for frame in frames}
    async with spool(tmp_path, again=True) as made:
        await made.restore()
        assert plain(record(made.hub)) == live


async def test_nobody_rejoins_what_has_not_begun(tmp_path: Path) -> None:
    """Without an init segment there is nothing to go on with."""
    async with spool(tmp_path) as made:
        with pytest.raises(MediaError, match="must have begun before"):
            await made.rejoin()
        assert made.journal is not None
        assert made.journal.size == 0


async def test_what_was_not_acknowledged_is_cut_off(tmp_path: Path) -> None:
    """Torn records, bytes behind the last one, a stray file, an index that reaches further than the file."""
    chunks = load("cv-vp8-restart.webm").chunks()
    rng = random.Random(5)
    for fault in range(5):
        directory = tmp_path / str(fault)
        directory.mkdir()
        async with journal_writer() as writer:
            async with spool(directory) as made:
                await feed(made, chunks)
                assert made.journal is not None
                last = made.journal.recorders[-1].path
            index = directory / "source.index"
            expected = chunks
            match fault:
                case 0:
                    with index.open("ab") as file:
                        file.write(bytes(rng.randrange(1, INDEX_RECORD.size)))
                case 1:
                    with last.open("ab") as file:
                        file.write(b"never acknowledged")
                case 2:
                    (directory / "source-0003.media").write_bytes(b"\x1a")
                case 3:
                    os.truncate(last, last.stat().st_size - 1)
                    expected = chunks[:-1]
                case 4:
                    os.truncate(index, index.stat().st_size - 1)
                    expected = chunks[:-1]
            journal = Journal.reopen(writer, directory, "source", 2**30)
            assert (journal.chunks, journal.partial) == (len(expected), 0)
            assert journal.size == sum(map(len, expected))
            await journal.append(b"more")
            journal.close()
        assert acknowledged(directory) == [*expected, b"more"]
        assert not (directory / "source-0003.media").exists()


async def test_of_a_long_chunk_a_part_may_be_there(tmp_path: Path) -> None:
    """A daemon that died in the middle of a long chunk tells how much of it is there."""
    async with journal_writer() as writer:
        journal = Journal.create(writer, tmp_path, "source", 2**30)
        await journal.append(b"first")
        await journal.append(b"12345", last=False)
        await journal.append(b"678", last=False)
        journal.close()
        journal = Journal.reopen(writer, tmp_path, "source", 2**30)
        assert (journal.chunks, journal.partial) == (1, 8)
        await journal.append(b"90")
        assert (journal.chunks, journal.partial) == (2, 0)
        journal.close()
        journal = Journal.reopen(writer, tmp_path, "source", 2**30)
        assert (journal.chunks, journal.partial) == (2, 0)
        journal.close()
    assert acknowledged(tmp_path) == [b"first", b"1234567890"]


async def test_what_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    """Another file of that name is told, and left as it is."""
    (tmp_path / "source.index").write_bytes(b"something else")
    async with journal_writer() as writer:
        with pytest.raises(IndexUnreadable):
            Journal.reopen(writer, tmp_path, "source", 2**30)
    assert (tmp_path / "source.index").read_bytes() == b"something else"


async def test_a_restored_hub_serves_who_comes(tmp_path: Path) -> None:
    """A subscriber of the restored hub gets all that the journal has, then what is new."""
    chunks = load("cv-vp8-250.webm").chunks()
    half = len(chunks) // 2
    async with spool(tmp_path) as made:
        await feed(made, chunks[:half])
    async with spool(tmp_path, again=True, hub=hub_config(memory=1)) as made:
        await made.restore()
        with made.hub.subscribe("journal", made.hub.oldest_mark()) as subscription:
            await feed(made, chunks[half:])
            made.end()
            got = plain(await drain(subscription))
            assert got == plain(record(made.hub))
