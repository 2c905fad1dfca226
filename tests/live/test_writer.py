"""The HLS writer with real FFmpegs: killed, orphaned, on a full disk, taken up by a later daemon."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
import trio
from attrs import evolve

from chaos.disk import Disk, disk
from ingestd.live import listing
from ingestd.live.hub import Hub
from ingestd.live.supervisor import State
from ingestd.live.writer import Writer
from ingestd.sinks.hls import HlsSink
from tests.live.test_settling import identity
from tests.live.writing import Program, Stage, assert_each_once, assert_sound, bereave, hub, viewer
from tests.sinks.sources import numbered
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, read_video

pytestmark = pytest.mark.usefixtures("no_processes_left")

Container = Literal["ts", "fmp4"]
both_containers = pytest.mark.parametrize("container", ["ts", "fmp4"])


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds, thirteen segments: the last one has a single picture."""
    return numbered(tmp_path_factory.mktemp("program") / "p.mkv", capture("cv-vp8-250.webm").path, 6.03)


@pytest.fixture(scope="module")
def program(media: Path) -> Program:
    return Program.of(media)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 6 MiB."""
    with disk(tmp_path / "disk", "6m") as mounted:
        yield mounted


def sink(container: Container = "ts", window: int = 0) -> HlsSink:
    return HlsSink(name="hls", segment=0.5, window=window, container=container)


async def kill_now_and_then(writer: Writer, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.uniform(0.15, 0.6))
        if writer.health.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(writer.health.pid, signal.SIGKILL)


async def perform(stage: Stage, program: Program, made: Hub, first: int = 0, live: int = 0) -> Writer:
    """One writer, to the end of the program."""
    writer = stage.writer(made)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await program.play(made, first, live)
    assert writer.health.state is State.STOPPED
    return writer


@pytest.mark.parametrize(("container", "window"), [("ts", 0), ("fmp4", 0), ("ts", 3)])
async def test_later_daemons_go_on(
    each_ffmpeg: str,
    tmp_path: Path,
    media: Path,
    program: Program,
    container: Container,
    window: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Daemons and writers die at random moments: every frame is listed once, as in an uninterrupted run."""
    rng = random.Random(f"{container} {window}")
    stage = Stage(each_ffmpeg, tmp_path, sink(container, window))
    first = live = 0
    async with viewer(stage) as seen:
        for orphans in (True, False, True):
            made = hub(rng.randrange(5000))
            writer = stage.writer(made)
            bereave(monkeypatch, orphans=orphans)
            with trio.move_on_after(rng.uniform(0.3, 0.6)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(writer.run)
                    nursery.start_soon(kill_now_and_then, writer, rng)
                    await program.play(made, first, live)
                    await trio.sleep_forever()
            live = program.published(made)
            # The journal may have given back what lies before the segment that is to be written next.
            end = (stage.notes.load() or {"end": 0})["end"]
            first = rng.choice([at for at in program.starts if program.frames[at].timestamp <= end][-3:])
        await perform(stage, program, hub(rng.randrange(5000)), first, live)
    assert_sound(stage)
    assert stage.playlist.ended
    assert not seen.violations
    assert_each_once(seen.packets(), program.packets())
    if not window:
        assert_each_once(stage.packets(), program.packets())
        assert_same_frames(read_video(stage.path), read_video(media))


@both_containers
async def test_what_a_full_disk_cuts_short_is_written_anew(
    each_ffmpeg: str, small: Disk, media: Path, program: Program, container: Container
) -> None:
    """The disk is full again and again, to the byte or nearly; in the end not a frame is missing."""
    rng = random.Random(container)
    stage = Stage(each_ffmpeg, small.path, sink(container))

    async def fill_now_and_then() -> None:
        for leave in (0, rng.randrange(1, 20), 0):
            await trio.sleep(rng.uniform(0.2, 0.4))
            with small.full(leave=4096 * leave):
                await trio.sleep(rng.uniform(0.1, 0.4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill_now_and_then)
        writer = await perform(stage, program, hub())
    assert writer.health.restarts
    assert writer.health.last_error is not None
    assert "playlist" in writer.health.last_error or "segment" in writer.health.last_error
    assert_sound(stage)
    assert stage.playlist.ended
    assert_each_once(stage.packets(), program.packets())
    assert_same_frames(read_video(stage.path), read_video(media))
    listed = {segment.uri for segment in stage.playlist.segments}
    assert {
        path.name for path in stage.hls.iterdir() if "-0" in path.name and "init" not in path.name
    } == listed


@both_containers
async def test_a_segment_that_is_cut_short_unseen(
    each_ffmpeg: str,
    tmp_path: Path,
    program: Program,
    container: Container,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The playlist is as it should be, FFmpeg says nothing: the size tells, and nothing is missing after."""
    stage = Stage(each_ffmpeg, tmp_path, sink(container))
    victims = {3, 9}
    left: dict[int, int] = {}

    def load(path: Path, seen: listing.Stamp | None) -> listing.Listing | None:
        found = listing.load(path, seen)
        listed = {each.sequence: path.parent / each.uri for each in found.playlist.segments} if found else {}
        last = max(listed, default=-1)
        # What is listed before FFmpeg is ended for the first is written anew with it: that is no second cut.
        anew = all(listed[each].stat().st_size > size for each, size in left.items() if each in listed)
        if last in victims and anew:
            victims.remove(last)
            left[last] = (listed[last].stat().st_size - 1) // 4096 * 4096
            os.truncate(listed[last], left[last])
        return found

    monkeypatch.setattr("ingestd.live.playlist.load", load)
    writer = await perform(stage, program, hub())
    assert writer.health.restarts == 2 - len(victims) > 0
    assert writer.health.last_error is not None
    assert "the disk cut short segment s1-" in writer.health.last_error
    assert_sound(stage)
    assert_each_once(stage.packets(), program.packets())


async def test_the_disk_is_full_at_the_very_end(each_ffmpeg: str, small: Disk, program: Program) -> None:
    """The last segment is missing: the attempt fails, says why, and ends the playlist when there is room."""
    stage = Stage(each_ffmpeg, small.path, sink())
    made = hub()
    writer = stage.writer(made)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await program.play(made, live=len(program.frames), end=False)
            while stage.playlist.following < 12:  # noqa: ASYNC110  another process's file
                await trio.sleep(0.02)
            with small.full(leave=0):
                made.end()
                while not writer.health.last_error:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                assert not stage.playlist.ended
    assert "the disk cut short" in writer.health.last_error
    assert stage.playlist.ended
    assert_sound(stage)
    assert_each_once(stage.packets(), program.packets())


async def test_nothing_is_left_to_be_written(ffmpeg: str, tmp_path: Path, program: Program) -> None:
    """The daemon died between the last segment and ENDLIST: the later one adds that, and starts no FFmpeg."""
    stage = Stage(ffmpeg, tmp_path, sink())
    await perform(stage, program, hub(), live=len(program.frames))
    whole = stage.text
    stage.path.write_text(whole.removesuffix("#EXT-X-ENDLIST\n"))
    again = await perform(stage, program, hub(77), first=program.starts[-1], live=len(program.frames))
    assert stage.text == whole
    assert again.sent_frames == 0
    assert again.sent_bytes == 0
    # And where even ENDLIST was there, nothing is touched.
    before = identity(stage.path)
    await perform(stage, program, hub(), live=len(program.frames))
    assert identity(stage.path) == before


@pytest.mark.parametrize(("container", "window"), [("ts", 0), ("fmp4", 3)])
async def test_without_notes_the_last_segment_is_written_anew(
    ffmpeg: str,
    tmp_path: Path,
    program: Program,
    container: Container,
    window: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a power cut the segments themselves say where the playlist ends."""
    stage = evolve(Stage(ffmpeg, tmp_path, sink(container, window)), noted=False)
    bereave(monkeypatch, orphans=True)
    async with viewer(stage) as seen:
        made = hub()
        writer = stage.writer(made)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            nursery.start_soon(program.play, made)
            while stage.playlist.following < 5:  # noqa: ASYNC110  another process's file
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        listed = stage.playlist.following
        await perform(stage, program, hub(), live=program.published(made))
    assert f"s1-1-{listed - 1:06}." in "".join(path.name for path in seen.kept.iterdir())
    assert_sound(stage)
    assert not seen.violations
    assert_each_once(seen.packets(), program.packets())
