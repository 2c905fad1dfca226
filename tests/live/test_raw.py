"""Raw recordings: the publisher's bytes, one file per recorder."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from ingestd.config import JournalConfig
from ingestd.live.catalog import Catalog
from ingestd.live.raw import RawRecording
from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health, State
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.tools import feed, spool
from tests.support.captures import capture


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("recordings", "hls", "journal"):
        (tmp_path / name).mkdir()
    return Place(stream="cam", recordings=tmp_path / "recordings", hls=tmp_path / "hls", stem="s1")


def raw(source: Spool, place: Place) -> RawRecording:
    return RawRecording("cam", FileSink(name="raw", format="raw"), place, source, Health("cam", "raw"))


async def test_each_recorder_is_a_file_byte_for_byte(place: Place, tmp_path: Path) -> None:
    """A page reload begins a second file; both are what the browser sent, named by what they are."""
    recorded = capture("cv-vp8-restart.webm")
    async with spool(tmp_path / "journal", keep=True) as made:
        run = raw(made, place)
        await feed(made, recorded.chunks())
        made.hub.end()
        await run.run()
        assert await run.keep()
    assert run.health.state is State.STOPPED
    assert [path.name for path in run.files] == ["s1-source-1.webm", "s1-source-2.webm"]
    assert [path.read_bytes() for path in run.files] == recorded.recorders()
    assert run.sent_bytes == sum(map(len, recorded.recorders()))


async def test_matroska_is_named_so(place: Place, tmp_path: Path) -> None:
    """The file's name says what its bytes say, not what was asked for."""
    recorded = capture("cv-h264webm-100.mkv")
    async with spool(tmp_path / "journal", keep=True) as made:
        run = raw(made, place)
        await feed(made, recorded.chunks())
        assert await run.keep()
    assert [path.name for path in run.files] == ["s1-source-1.mkv"]


async def test_a_lost_journal_is_a_failed_recording_that_keeps_what_it_has(
    place: Place, tmp_path: Path
) -> None:
    """When the disk is full and the stream goes on, the sink says so at once; what was written is kept."""
    chunks = capture("cv-vp8-250.webm").chunks()
    fits = sum(map(len, chunks[:8]))
    config = JournalConfig(on_full="continue")
    async with spool(tmp_path / "journal", keep=True, max_size=fits, config=config) as made:
        run = raw(made, place)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.run)
            await feed(made, chunks[:8])
            await wait_all_tasks_blocked()
            assert run.health.state is State.RUNNING
            await feed(made, chunks[8:])
            await wait_all_tasks_blocked()
            assert run.health.state is State.FAILED
            assert "journal.max_size" in str(run.health.last_error)
            made.hub.end()
        assert await run.keep()
    assert run.health.state is State.FAILED
    assert [path.read_bytes() for path in run.files] == [b"".join(chunks[:8])]


async def test_a_name_that_is_taken_is_not_overwritten(place: Place, tmp_path: Path) -> None:
    """If a recording cannot get its name the journal is not to be thrown away."""
    (place.recordings / "s1-source-1.webm").write_bytes(b"precious")
    async with spool(tmp_path / "journal", keep=True) as made:
        run = raw(made, place)
        await feed(made, capture("cv-vp8-250.webm").chunks())
        assert not await run.keep()
    assert run.health.state is State.FAILED
    assert "File exists" in str(run.health.last_error)
    assert (place.recordings / "s1-source-1.webm").read_bytes() == b"precious"


async def test_what_has_its_name_already_is_not_kept_twice(place: Place, tmp_path: Path) -> None:
    """A daemon that dies between the names and the journal's removal leaves no second recording."""
    recorded = capture("cv-vp8-restart.webm")
    place = evolve(place, catalog=tmp_path / "catalog")
    async with spool(tmp_path / "journal", keep=True) as made:
        await feed(made, recorded.chunks())
        made.hub.end()
        assert await raw(made, place).keep()
        second = place.recordings / "s1-source-2.webm"
        second.unlink()  # it died after the first
        for _ in range(2):
            run = raw(made, place)
            await run.run()
            assert await run.keep()
            assert run.health.state is State.STOPPED
            assert run.names == ["s1-source-1.webm", "s1-source-2.webm"]
            assert [path.read_bytes() for path in run.files] == recorded.recorders()
    assert sorted(path.name for path in place.recordings.iterdir()) == run.names
    listed = Catalog(tmp_path / "catalog" / "raw.jsonl", place.recordings).finished()
    assert sorted(entry.name for entry in listed) == run.names
