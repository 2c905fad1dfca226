"""Retention: only finished recordings of ours go, the oldest first, as age and size ask for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from ingestd.config import Config, Pipeline, Storage, StreamConfig, SupervisorConfig
from ingestd.events import Events
from ingestd.live.catalog import Catalog
from ingestd.live.hub import Configuration, Hub
from ingestd.live.raw import RawRecording
from ingestd.live.recording import Recording
from ingestd.live.recovery import recover
from ingestd.live.retention import make_place, place_of, retain, retain_forever
from ingestd.live.supervisor import Health
from ingestd.registry.directory import Directory, declared
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.tools import VIDEO, Source, feed, hub_config, spool
from tests.support.captures import capture
from tests.support.packages import program

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = place_of(tmp_path, "cam", "p", "s1")
    found.recordings.mkdir(parents=True)
    return found


def make(place: Place, sink: FileSink, name: str, size: int = 2**19, age: float = 0.0) -> Path:
    """A finished recording of *sink*, *age* seconds old."""
    file = place.recordings / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    os.utime(file, (NOW - age, NOW - age))
    catalog = Catalog.of(sink, place)
    assert catalog is not None
    catalog.begin(name)
    catalog.note(name, file)
    return file


def there(place: Place) -> list[str]:
    root = place.recordings
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_without_a_limit_all_is_kept() -> None:
    """A sink without either key keeps everything for ever."""
    assert not FileSink().retains
    assert FileSink(keep_for=60.0).retains
    assert FileSink(keep_size=2**20).retains


def test_by_age(place: Place) -> None:
    """What ended longer ago than keep_for goes; what did not, stays."""
    sink = FileSink(name="file", keep_for=2 * DAY)
    for days in (1, 2, 3, 4):
        make(place, sink, f"{days}.mkv", age=days * DAY)
    assert [path.name for path in retain(sink, place, NOW)] == ["4.mkv", "3.mkv"]
    assert there(place) == ["1.mkv", "2.mkv"]
    assert retain(sink, place, NOW) == []


def test_by_size_the_oldest_go_until_the_rest_fits(place: Place) -> None:
    """The sum of what stays is at most keep_size, and no file more than needed goes."""
    sink = FileSink(name="file", keep_size=2**20)
    for age in (1, 2, 3, 4):
        make(place, sink, f"{age}.mkv", age=float(age))
    assert [path.name for path in retain(sink, place, NOW)] == ["4.mkv", "3.mkv"]


def test_nothing_but_our_own_finished_recordings_is_ever_removed(place: Place, tmp_path: Path) -> None:
    """Other sinks', other streams', a person's, changed, moved, linked, unfinished files: all stay."""
    sink = FileSink(name="file", keep_for=60.0, keep_size=2**20)
    mine = make(place, sink, "mine.mkv", age=DAY)
    edited = make(place, sink, "edited.mkv", age=DAY)
    edited.write_bytes(b"x" * 2**19)
    touched = make(place, sink, "touched.mkv", age=DAY)
    touched.touch()
    swapped = make(place, sink, "swapped.mkv", age=DAY)
    swapped.rename(place.recordings / "renamed.mkv")
    swapped.symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_bytes(b"precious")
    make(place, FileSink(name="other"), "other.mkv", age=DAY)
    make(place_of(tmp_path, "other", "p", "s1"), sink, "theirs.mkv", age=DAY)
    for name in ("20200101T000000.000Z.mkv", "being-written.mkv.part"):
        (place.recordings / name).write_bytes(b"a person's")
        os.utime(place.recordings / name, (NOW - DAY, NOW - DAY))
    before = set(tmp_path.rglob("*"))
    assert retain(sink, place, NOW) == [mine]
    assert set(tmp_path.rglob("*")) == before - {mine}
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "name", ["../precious", "/etc/hostname", "a/../../precious", "", ".", "linked/x", "\0"]
)
def test_a_list_that_lies_leads_nowhere(place: Place, tmp_path: Path, name: str) -> None:
    """Whatever stands in the list, nothing outside the stream's recordings is removed."""
    (tmp_path / "elsewhere").mkdir()
    (place.recordings / "linked").symlink_to(tmp_path / "elsewhere")
    for path in (place.recordings.parent / "precious", tmp_path / "elsewhere" / "x"):
        path.write_bytes(b"precious")
        os.utime(path, (NOW - DAY, NOW - DAY))
    sink = FileSink(name="file", keep_for=60.0)
    catalog = Catalog.of(sink, place)
    assert catalog is not None
    catalog.note(name, tmp_path / "elsewhere" / "x")
    before = set(tmp_path.rglob("*"))
    assert retain(sink, place, NOW) == []
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "rubbish", [b"\xff\xfe", b'{"file": "a', b"[]\n3\nnull\n", b'{"file": 3}\n', bytes(99)]
)
def test_a_torn_list_still_serves(place: Place, rubbish: bytes) -> None:
    """Lines that a crash has torn are passed over, and spoil none that follow."""
    sink = FileSink(name="file", keep_for=60.0)
    make(place, sink, "1.mkv", age=DAY)
    catalog = Catalog.of(sink, place)
    assert catalog is not None
    with catalog.path.open("ab") as file:
        file.write(rubbish)
    make(place, sink, "2.mkv", age=DAY)
    assert len(retain(sink, place, NOW)) == 2


def test_the_list_is_bounded_by_the_files(place: Place) -> None:
    """After a thousand recordings that went, the list names those that are there, begun ones included."""
    sink = FileSink(name="file", keep_size=2**20)
    catalog = Catalog.of(sink, place)
    assert catalog is not None
    (place.recordings / "live.mkv.part").touch()
    catalog.begin("live.mkv")
    for number in range(1000):
        make(place, sink, f"{number}.mkv", size=2**18, age=1000.0 - number)
        if number % 20 == 0:
            retain(sink, place, NOW)
    retain(sink, place, NOW)
    assert len(there(place)) == 4 + 1
    assert len(catalog.path.read_text().split()) < 2000
    assert Catalog.owner(catalog.path.parent, place.recordings, "live.mkv") is not None


def test_a_session_may_add_while_the_daemon_clears_up(place: Place) -> None:
    """Nothing that is noted during a round is lost from the list."""
    sink = FileSink(name="file", keep_for=60.0)

    def add(start: int) -> None:
        for number in range(start, start + 200):
            make(place, sink, f"{number}.mkv", size=1, age=DAY if number % 2 else 0.0)

    adders = [threading.Thread(target=add, args=(1000 * n,)) for n in range(3)]
    for thread in adders:
        thread.start()
    while any(thread.is_alive() for thread in adders):
        retain(sink, place, NOW)
    retain(sink, place, NOW)
    assert len(there(place)) == 300
    catalog = Catalog.of(sink, place)
    assert catalog is not None
    assert len(catalog.finished()) == 300


def test_directories_that_become_empty_go(place: Place) -> None:
    """A day's directory goes with its last recording, and not while anything else is in it."""
    sink = FileSink(name="file", keep_for=60.0)
    make(place, sink, "2026-01-01/a/1.mkv", age=DAY)
    make(place, sink, "2026-01-02/1.mkv", age=DAY)
    (place.recordings / "2026-01-02" / "notes.txt").write_text("mine")
    retain(sink, place, NOW)
    assert sorted(path.name for path in place.recordings.rglob("*")) == ["2026-01-02", "notes.txt"]


def test_what_cannot_be_removed_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read-only disk stops the round with its cause, and no session."""
    sink = FileSink(name="file", keep_for=60.0)
    file = make(place, sink, "1.mkv", age=DAY)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        assert retain(sink, place, NOW) == []
    assert "recording_not_removed" in capsys.readouterr().out
    assert retain(sink, place, NOW) == [file]


def recording(hub: Hub, place: Place, **options: Any) -> Recording:
    sink = FileSink(name="file", **options)
    return Recording("cam", program("ffmpeg"), sink, place, SupervisorConfig(), hub, Health("cam", "file"))


async def test_a_session_removes_its_own_oldest_files_as_it_goes(place: Place) -> None:
    """With rotation, keep_size makes a ring of the last files; the one being written is not counted."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    run = recording(hub, place, rotate_every=1.0, keep_size=2**20, path="{session}-{part}")
    for _ in range(6):
        source.publish(key=True, frames=40, payload=bytes(10_000))
    hub.end()
    await run.run()
    assert there(place) == ["s1-005.mkv", "s1-006.mkv"]


async def test_a_recovered_recording_is_ours(place: Place) -> None:
    """What a crash left and the next start finished falls under retention; a stray part does not."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    run = recording(hub, place)
    async with trio.open_nursery() as nursery:
        source.publish(key=True, frames=40)
        nursery.start_soon(run.run)
        while run.sent_frames < 40:  # noqa: ASYNC110
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    (place.recordings / "stray.mkv.part").write_bytes((place.recordings / "s1.mkv.part").read_bytes())
    assert place.catalog is not None
    await recover(place.recordings.parent, program("ffmpeg"), place.catalog.parent)
    assert there(place) == ["s1.mkv", "stray.mkv"]
    retain(evolve(run.sink, keep_for=60.0), place, NOW + 1e9)
    assert there(place) == ["stray.mkv"]


async def test_raw_recordings_fall_under_it_too(place: Place, tmp_path: Path) -> None:
    """A raw recording is listed under its name, keeps its bytes, and goes when its time has come."""
    sink = FileSink(name="raw", format="raw", path="{date}/{session}", keep_for=60.0)
    (tmp_path / "journal").mkdir()
    async with spool(tmp_path / "journal", keep=True) as made:
        run = RawRecording("cam", sink, place, made, Health("cam", "raw"))
        await feed(made, capture("cv-vp8-restart.webm").chunks())
        made.hub.end()
        await run.run()
        assert await run.keep()
    assert there(place) == run.names
    assert [name.partition("/")[2] for name in run.names] == ["s1-source-1.webm", "s1-source-2.webm"]
    retain(sink, place, NOW + 1e9)
    assert there(place) == []


async def test_streams_that_are_not_live_are_cleared_up(tmp_path: Path) -> None:
    """The daemon's round goes over every stream, at its start and from time to time."""
    sink = FileSink(name="file", keep_for=60.0)
    config = Config(
        path=tmp_path / "ingestd.toml",
        storage=Storage(state_dir=tmp_path),
        pipelines={"p": Pipeline(id="p", sinks=(sink,))},
    )
    events = Events()
    directory = Directory(declared([StreamConfig(name="cam", pipeline="p", key_sha256=b"")], NOW))
    place = place_of(tmp_path, "cam", "p", "")
    old = NOW - 1e9
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            make(place, sink, "1.mkv", age=NOW - old)
            nursery.start_soon(retain_forever, config, directory, events, 0.01)
            for name in ("2.mkv", "3.mkv"):
                while there(place):  # noqa: ASYNC110
                    await trio.sleep(0.01)
                make(place, sink, name, age=NOW - old)
            nursery.cancel_scope.cancel()
    told = [(event.type, event.stream, event.data["file"]) for event in events.since(0)[0]]
    assert ("recording.removed", "cam", "1.mkv") in told


async def test_so_are_those_that_are_deleted(tmp_path: Path) -> None:
    """By the pipeline of their last session; of one whose pipeline is gone, too, nothing is removed."""
    sinks = {"short": FileSink(name="file", keep_for=60.0), "long": FileSink(name="file", keep_for=30 * DAY)}
    age = NOW - (time.time() - 2 * DAY)
    config = Config(
        path=tmp_path / "ingestd.toml",
        storage=Storage(state_dir=tmp_path),
        pipelines={name: Pipeline(id=name, sinks=(sink,)) for name, sink in sinks.items()},
    )
    places = [
        place_of(tmp_path, "a", "short", "s1"),
        place_of(tmp_path, "b", "long", "s1"),
        place_of(tmp_path, "c", "gone", "s1"),
        place_of(tmp_path, "d", "long", "s1"),
        place_of(tmp_path, "d", "short", "s2"),
    ]
    for each in places:
        make_place(each)
        make(each, sinks["short"], f"{each.stem}.mkv", age=age)
    events = Events()
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(retain_forever, config, Directory(), events, 0.01)
            while there(places[0]) or there(places[4]):  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert [there(each) for each in places] == [[], ["s1.mkv"], ["s1.mkv"], [], []]
    assert {(event.stream, event.data["name"]) for event in events.since(0)[0]} == {
        ("a", "file"),
        ("d", "file"),
    }
