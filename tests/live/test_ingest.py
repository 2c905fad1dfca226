"""A session's ingest: who may publish, what is taken, what is a gap; with a real journal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field

from ingestd.errors import MediaError
from ingestd.live.ingest import Ingest, Seat
from ingestd.live.publication import Chunk, Item, Publication, Skip
from ingestd.live.spool import Spool
from ingestd.media.frames import SegmentStart
from ingestd.media.webm_demux import Demuxer
from tests.client.ledger import access_points, header_of
from tests.live.tools import acknowledged, spool
from tests.support.captures import capture

WINDOW = 60.0


@define
class Desk:
    """An ingest that runs, and the publishers that come to it."""

    ingest: Ingest
    source: Spool
    present: list[bool] = field(factory=list)
    saved: list[dict[str, object]] = field(factory=list)
    error: MediaError | None = None
    ended: bool = False

    def come(self, *, numbered: bool = False, resumes: bool = False) -> Publication:
        """A publisher, with a channel that takes all that a test sends."""
        send, receive = trio.open_memory_channel[Item](1000)
        publication = Publication("cam", "somewhere", send)
        self.ingest.attach(Seat(publication, receive, numbered, resumes))
        return publication

    async def run(self) -> None:
        try:
            await self.ingest.run(self.source)
        except MediaError as error:
            self.error = error
        self.ended = True


@asynccontextmanager
async def desk(directory: Path, *, again: bool = False, window: float = WINDOW) -> AsyncIterator[Desk]:
    async with spool(directory, again=again) as source:
        present: list[bool] = []
        saved: list[dict[str, object]] = []

        async def save() -> None:
            saved.append(ingest.unstructure())

        ingest = Ingest("cam", "session-1", window, present.append, save)
        made = Desk(ingest, source, present, saved)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds: the journal writes in a thread, whose time nobody knows."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  whatever it looks at
            await trio.sleep(0.002)


async def taken(ingest: Ingest, count: int) -> None:
    """Wait until so many chunks have been taken."""
    await until(lambda: ingest.chunks == count)


def go(publication: Publication, *, done: bool = False) -> None:
    publication.leave(done=done)
    publication.chunks.close()


@pytest.fixture
def chunks() -> list[bytes]:
    return capture("cv-vp8-250.webm").chunks()


async def test_who_is_done_ends_the_session(tmp_path: Path, chunks: list[bytes]) -> None:
    """And nobody is waited for."""
    async with desk(tmp_path) as made:
        publisher = made.come()
        for chunk in chunks[:3]:
            await publisher.chunks.send(Chunk(chunk))
        go(publisher, done=True)
        await until(lambda: made.ended)
        assert (made.ingest.chunks, made.ingest.size) == (3, sum(map(len, chunks[:3])))
        assert made.ingest.gap_count == made.ingest.cuts == 0
        late = made.come()
        assert late.closing is not None
        assert late.closing.code == 1000


async def test_the_window_is_waited_and_no_longer(tmp_path: Path, chunks: list[bytes]) -> None:
    """One that is lost may come back within the window, which begins anew; then the session is over."""
    async with desk(tmp_path, window=0.4) as made:
        for number in (1, 2, 3):
            publisher = made.come()
            await publisher.chunks.send(Chunk(chunks[0]))
            go(publisher)
            await until(lambda: made.present[-1:] == [False])
            made.present.clear()
            assert made.ingest.cuts == number
            assert not made.ended
        lost = trio.current_time()
        await until(lambda: made.ended)
        assert trio.current_time() - lost > 0.3
        assert (made.ingest.cuts, made.ingest.gap_count) == (3, 2)


async def test_without_a_window_a_loss_is_the_end(tmp_path: Path, chunks: list[bytes]) -> None:
    """As it is for a publisher that never sent anything."""
    for window, sent in ((0.0, chunks[:1]), (WINDOW, [])):
        directory = tmp_path / str(window)
        directory.mkdir()
        async with desk(directory, window=window) as made:
            publisher = made.come()
            for chunk in sent:
                await publisher.chunks.send(Chunk(chunk))
            go(publisher)
            await until(lambda: made.ended)


async def test_a_numbered_publisher_goes_on_where_it_was(tmp_path: Path, chunks: list[bytes]) -> None:
    """With its token, in the middle of a recorder: no gap, none twice, none missing."""
    async with desk(tmp_path) as made:
        first = made.come(numbered=True)
        accepted = await first.wait_accepted()
        assert (accepted.next, accepted.resumed, accepted.recorder) == (0, False, None)
        assert accepted.token is not None
        assert made.ingest.authorises(accepted.token)
        assert not made.ingest.authorises(accepted.token + "x")
        for number, chunk in enumerate(chunks[:4]):
            await first.chunks.send(Chunk(chunk, number, 0))
        await until(lambda: first.acknowledged == 4)
        go(first)
        second = made.come(numbered=True, resumes=True)
        again = await second.wait_accepted()
        assert (again.next, again.resumed, again.recorder) == (4, True, 0)
        assert again.token is None
        assert made.ingest.authorises(accepted.token)
        for number, chunk in enumerate(chunks[4:], 4):
            await second.chunks.send(Chunk(chunk, number, 0))
        go(second, done=True)
        await until(lambda: made.ended)
        assert (made.ingest.cuts, made.ingest.gap_count) == (1, 0)
        assert second.acknowledged == len(chunks)
    assert acknowledged(tmp_path) == chunks
    assert (tmp_path / "source-0001.media").read_bytes() == b"".join(chunks)


async def test_takeover_ends_the_other_at_once(tmp_path: Path, chunks: list[bytes]) -> None:
    """What the dead socket's channel still holds is taken first: the newcomer goes on behind it."""
    async with desk(tmp_path) as made:
        first = made.come(numbered=True)
        await first.wait_accepted()
        await first.chunks.send(Chunk(chunks[0], 0, 0))
        await until(lambda: first.acknowledged == 1)
        second = made.come(numbered=True, resumes=True)
        assert first.closing is not None
        assert first.closing.code == 4412
        await first.chunks.send(Chunk(chunks[1], 1, 0))
        go(first)
        assert (await second.wait_accepted()).next == 2
        assert made.ingest.takeovers == 1
        third, fourth = made.come(numbered=True, resumes=True), made.come(numbered=True, resumes=True)
        assert third.closing is not None
        assert third.closing.code == 4412
        go(second)
        assert (await fourth.wait_accepted()).next == 2


async def test_dropped_chunks_are_one_gap_of_their_number(tmp_path: Path) -> None:
    """After a skip the same recorder rejoins at a media segment; the numbers go on behind the lost ones."""
    data = capture("cv-vp8-250.webm").recorders()[0]
    segments = [event.offset for event in Demuxer().feed(data) if isinstance(event, SegmentStart)]
    cut, back = segments[2] + 100, segments[-3]
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        await publisher.chunks.send(Chunk(data[:cut], 0, 0))
        await publisher.chunks.send(Skip(9, "the buffer was full"))
        await publisher.chunks.send(Chunk(data[back:], 9, 0))
        await until(lambda: publisher.acknowledged == 10)
        (gap,) = made.ingest.gaps
        assert (gap.chunks, gap.reason) == (9 - 1, "the buffer was full")
        assert made.source.intake.error is None
        assert made.source.intake.lives[-1].joins == "rejoins"
        go(publisher, done=True)
        await until(lambda: made.ended)
    init = data[: segments[0]]
    assert (tmp_path / "source-0002.media").read_bytes() == init + data[back:]


async def test_what_is_lost_right_behind_the_headers_is_a_gap(tmp_path: Path) -> None:
    """The same recorder goes on though nothing but its init segment had come."""
    data = capture("cv-vp8-250.webm").recorders()[0]
    init, back = header_of(data), access_points(data)[-1]
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        for item in (Chunk(init, 0, 0), Skip(9, "the buffer was full"), Chunk(data[back:], 9, 0)):
            await publisher.chunks.send(item)
        await publisher.wait_acknowledged(10)
        assert [gap.chunks for gap in made.ingest.gaps] == [8]
        assert made.source.intake.error is None
        assert made.source.hub.next_seq
    assert (tmp_path / "source-0001.media").read_bytes() == init + data[back:]


async def test_a_skip_before_a_new_recorder_is_one_gap(tmp_path: Path, chunks: list[bytes]) -> None:
    """Though the publisher was away meanwhile, it is told once."""
    async with desk(tmp_path) as made:
        first = made.come(numbered=True)
        await first.chunks.send(Chunk(chunks[0], 0, 0))
        await until(lambda: first.acknowledged == 1)
        go(first)
        second = made.come(numbered=True, resumes=True)
        await second.chunks.send(Skip(5, "away for too long"))
        await second.chunks.send(Chunk(chunks[0], 5, 1))
        await until(lambda: second.acknowledged == 6)
        assert [gap.chunks for gap in made.ingest.gaps] == [4]


@pytest.mark.parametrize("when", ["connected", "after a loss", "before a loss"])
async def test_the_publisher_knows_how_long_nothing_was_recorded(
    tmp_path: Path, chunks: list[bytes], when: str
) -> None:
    """One gap of so many seconds, which end about now, though the connection may have broken there, too."""
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        await publisher.chunks.send(Chunk(chunks[0], 0, 0))
        await until(lambda: publisher.acknowledged == 1)

        async def lose() -> Publication:
            go(publisher)
            await until(lambda: made.present[-1:] == [False])
            again = made.come(numbered=True, resumes=True)
            await again.wait_accepted()
            return again

        if when == "after a loss":
            publisher = await lose()
        await publisher.chunks.send(Skip(2, "too much waited", 20.5))
        if when == "before a loss":
            await until(lambda: publisher.acknowledged == 2)
            publisher = await lose()
            assert publisher.accepted is not None
            assert publisher.accepted.next == 2  # and it is not said again
        await publisher.chunks.send(Chunk(chunks[0], 2, 1))
        await until(lambda: publisher.acknowledged == 3)
        (gap,) = made.ingest.gaps
        assert (gap.seconds, gap.chunks, gap.reason) == (20.5, 1, "too much waited")
        assert 0 <= time.time() - 20.5 - gap.began < 20
        assert (made.ingest.gap_count, made.ingest.gap_seconds) == (1, 20.5)


@pytest.mark.parametrize("follows", [False, True])
async def test_a_loss_between_two_recorders(tmp_path: Path, chunks: list[bytes], *, follows: bool) -> None:
    """It is a gap, unless the publisher knows that the one began when the other ended."""
    async with desk(tmp_path) as made:
        first = made.come(numbered=True)
        await first.chunks.send(Chunk(chunks[0], 0, 0))
        await until(lambda: first.acknowledged == 1)
        go(first)
        second = made.come(numbered=True, resumes=True)
        await second.chunks.send(Chunk(chunks[0], 1, 1, follows=follows))
        await until(lambda: second.acknowledged == 2)
        assert [gap.chunks for gap in made.ingest.gaps] == ([] if follows else [None])
        # And where no connection broke there is none in either case.
        await second.chunks.send(Chunk(chunks[0], 2, 2))
        await until(lambda: second.acknowledged == 3)
        assert made.ingest.gap_count == (not follows)


async def test_a_number_out_of_order_is_refused(tmp_path: Path, chunks: list[bytes]) -> None:
    """Whatever a source lets through: 4400, and nothing of it is taken."""
    for wrong in (0, 2, 10**9):
        directory = tmp_path / str(wrong)
        directory.mkdir()
        async with desk(directory) as made:
            publisher = made.come(numbered=True)
            await publisher.chunks.send(Chunk(chunks[0], 0, 0))
            await publisher.chunks.send(Chunk(chunks[1], wrong, 0))
            assert (await publisher.wait_closing()).code == 4400
            assert made.ingest.chunks == 1
            assert not made.ended


async def test_a_loss_before_the_first_chunk_is_no_gap(tmp_path: Path, chunks: list[bytes]) -> None:
    """Nothing was sent, so nothing is missing."""
    async with desk(tmp_path) as made:
        first = made.come(numbered=True)
        await first.wait_accepted()
        go(first)
        await until(lambda: made.present == [True, False])
        second = made.come(numbered=True, resumes=True)
        assert (await second.wait_accepted()).next == 0
        await second.chunks.send(Chunk(chunks[0], 0, 0))
        await until(lambda: second.acknowledged == 1)
        assert made.ingest.gap_count == 0


async def test_another_client_counts_its_recorders_anew(tmp_path: Path, chunks: list[bytes]) -> None:
    """Without the token, recorder 0 is not the recorder 0 of before."""
    async with desk(tmp_path) as made:
        for _ in range(2):
            publisher = made.come(numbered=True)
            number = (await publisher.wait_accepted()).next
            await publisher.chunks.send(Chunk(chunks[0], number, 0))
            await publisher.wait_acknowledged(number + 1)
            go(publisher)
        assert made.source.journal is not None
        assert len(made.source.journal.recorders) == 2
        assert made.ingest.gap_count == 1


async def test_bad_media_may_be_followed_by_good(tmp_path: Path, chunks: list[bytes]) -> None:
    """4415; another recorder within the window goes on, and without one the session has failed."""
    async with desk(tmp_path, window=0.4) as made:
        frames = [0]
        for _ in range(2):
            publisher = made.come()
            for chunk in (*chunks[:3], bytes(200_000)):
                await publisher.chunks.send(Chunk(chunk))
            assert (await publisher.wait_closing()).code == 4415
            assert made.source.hub.next_seq > frames[-1]
            frames.append(made.source.hub.next_seq)
            go(publisher)
        await until(lambda: made.ended)
        assert made.error is not None


async def test_empty_chunks_count(tmp_path: Path, chunks: list[bytes]) -> None:
    """They have numbers and are acknowledged; one does not begin a recorder."""
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        for number, chunk in enumerate((b"", chunks[0], b"", chunks[1], b"")):
            await publisher.chunks.send(Chunk(chunk, number, 0))
        await until(lambda: publisher.acknowledged == 5)
        assert made.saved[-1]["next"] == 5
        assert made.source.journal is not None
        assert len(made.source.journal.recorders) == 1
        assert made.source.intake.error is None


async def test_a_later_daemon_knows_it_all(tmp_path: Path, chunks: list[bytes]) -> None:
    """Token, numbers, recorder and gaps; and of a long chunk that was cut in two, how much is there."""
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        token = (await publisher.wait_accepted()).token
        assert token is not None
        await publisher.chunks.send(Chunk(chunks[0], 0, 7))
        await until(lambda: publisher.acknowledged == 1)
        assert made.source.journal is not None
        await made.source.journal.append(chunks[1][:1000], last=False)
        saved = made.saved[-1]
    async with spool(tmp_path, again=True) as source:
        await source.restore()
        ingest = Ingest("cam", "session-1", WINDOW, lambda _: None, _nothing)
        ingest.structure(saved)
        ingest.interrupted(source, 0.0)
        assert ingest.authorises(token)
        assert (ingest.chunks, ingest.cuts) == (1, 1)
        made = Desk(ingest, source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            second = made.come(numbered=True, resumes=True)
            assert (await second.wait_accepted()).recorder == 7
            for number, chunk in enumerate(chunks[1:], 1):
                await second.chunks.send(Chunk(chunk, number, 7))
            go(second, done=True)
        assert ingest.gap_count == 0
    assert (tmp_path / "source-0001.media").read_bytes() == b"".join(chunks)


@pytest.mark.parametrize("sizes", [(400, 300), (700,), (1000,), (999, 1, 5000), (1, 1, 1)])
async def test_a_chunk_that_was_half_there_may_be_cut_anew(
    tmp_path: Path, chunks: list[bytes], sizes: tuple[int, ...]
) -> None:
    """A daemon died 1,000 bytes into it: whatever the chunks are now, no byte is there twice."""
    data = b"".join(chunks)
    async with desk(tmp_path) as made:
        publisher = made.come(numbered=True)
        await publisher.chunks.send(Chunk(chunks[0], 0, 0))
        await publisher.wait_acknowledged(1)
        assert made.source.journal is not None
        await made.source.journal.append(chunks[1][:1000], last=False)
        saved = made.saved[-1]
    async with spool(tmp_path, again=True) as source:
        await source.restore()
        ingest = Ingest("cam", "session-1", WINDOW, lambda _: None, _nothing)
        ingest.structure(saved)
        ingest.interrupted(source, 0.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Desk(ingest, source).run)
            second = Desk(ingest, source).come(numbered=True, resumes=True)
            at = len(chunks[0])
            for number, size in enumerate((*sizes, len(data)), 1):
                await second.chunks.send(Chunk(data[at : at + size], number, 0))
                at += size
                await taken(ingest, number + 1)
                there = len(chunks[0]) + 1000
                assert second.acknowledged == (number + 1 if at >= there else 1)
            go(second, done=True)
        assert (ingest.gap_count, ingest.size) == (0, len(data))
    assert (tmp_path / "source-0001.media").read_bytes() == data


async def _nothing() -> None:
    pass


async def test_closing_tells_everybody(tmp_path: Path, chunks: list[bytes]) -> None:
    """Who publishes and who waits hear why; nobody is waited for."""
    async with desk(tmp_path) as made:
        first = made.come()
        await first.chunks.send(Chunk(chunks[0]))
        await until(lambda: made.ingest.chunks == 1)
        second = made.come(numbered=True)
        made.ingest.close(4500, "the encoder failed")
        assert second.closing is not None
        assert second.closing.code == 4500
        go(first)
        await until(lambda: made.ended)
