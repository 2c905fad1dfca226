"""Rotation: a session's recording in several files that, joined, are the one of a run without rotation."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from ingestd.config import SupervisorConfig
from ingestd.errors import FatalFailure
from ingestd.live import recording as module
from ingestd.live.hub import Configuration, Hub
from ingestd.live.part import PART
from ingestd.live.recording import Recording
from ingestd.live.recovery import recover
from ingestd.live.supervisor import Health, State
from ingestd.media.frames import NS_PER_MS, Frame
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.tools import BOTH, VIDEO, Source, feed, hub_config, spool
from tests.media.tools import demux, frames_of
from tests.support.captures import capture
from tests.support.counting import NumberedFrame, assert_same_frames, decode_errors, read_beeps, read_video
from tests.support.packages import program

BEGAN = 1_700_000_000.5


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("recordings", "hls"):
        (tmp_path / name).mkdir()
    return Place(
        stream="cam", pipeline="p", recordings=tmp_path / "recordings", hls=tmp_path / "hls", stem="s1",
        catalog=tmp_path / "catalog",
    )  # fmt: skip


def recording(hub: Hub, place: Place, **options: Any) -> Recording:
    sink = FileSink(name="file", **options)
    health = Health("cam", "file")
    return Recording(
        "cam", program("ffmpeg"), sink, place, SupervisorConfig(), hub, health, clock=lambda: BEGAN
    )


async def record(name: str, place: Place, tmp_path: Path, **options: Any) -> Recording:
    """The whole capture *name*, as fast as it goes."""
    journal = tmp_path / f"journal-{place.stem}"
    journal.mkdir()
    async with spool(journal) as made:
        run = recording(made.hub, place, **options)
        async with trio.open_nursery() as nursery:
            await feed(made, capture(name).chunks()[:3])
            nursery.start_soon(run.run)
            await feed(made, capture(name).chunks()[3:])
            made.hub.end()
        assert run.sent_frames == made.hub.next_seq
    return run


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(place: Place) -> list[Path]:
    return sorted(place.recordings.glob("*"))


def assert_joined(parts: list[Path], control: list[NumberedFrame]) -> None:
    """Each of *parts* begins at 0 and goes on with the frame after the last of the one before."""
    at = 0
    for part in parts:
        assert decode_errors(part) == []
        shown = read_video(part)
        assert shown[0][0] == pytest.approx(0, abs=0.15), part
        assert_same_frames(shown, control[at : at + len(shown)], align=True)
        at += len(shown)
    assert at == len(control)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("cv-vp8-250.webm", {"rotate_every": 1.0}, "mkv"),
        ("cv-vp8-250.webm", {"rotate_size": 65536}, "mkv"),
        ("cv-vp9-250.webm", {"rotate_every": 1.0}, "mp4"),
        ("cv-h264webm-100.mkv", {"rotate_every": 1.0}, "mp4"),
        ("cv-mp4avc-250.mp4", {"rotate_every": 1.0}, "mp4"),
    ],
)
async def test_the_files_joined_show_the_control_runs_frames(
    place: Place, tmp_path: Path, name: str, options: dict[str, Any], kind: str
) -> None:
    """Every frame is in one file, in order, at its distance from the file's first; nothing else is left."""
    control = await record(name, evolve(place, stem="control"), tmp_path, format=kind)
    assert control.file is not None
    frames, beeps = read_video(control.file), read_beeps(control.file)
    control.file.unlink()
    run = await record(name, place, tmp_path, format=kind, path="{session}-{part}", **options)
    parts = files(place)
    assert [path.name for path in parts] == [f"s1-{n:03}.{kind}" for n in range(1, len(parts) + 1)]
    assert len(parts) > 1
    assert (run.finished, run.dropped_frames) == (len(parts), 0)
    assert_joined(parts, frames)
    whole = tmp_path / f"whole.{kind}"
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"file '{path}'\n" for path in parts))
    await trio.run_process(
        [program("ffmpeg"), "-v", "error", "-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", whole]
    )
    assert [number for _, number in read_video(whole)] == [number for _, number in frames]
    assert len(read_beeps(whole)) == pytest.approx(len(beeps), abs=1)  # one may lie on a cut


async def test_sound_is_rotated_anywhere_and_lacks_nothing(place: Place, tmp_path: Path) -> None:
    """Without video every frame is a random access point: the packets of all files are the source's."""
    run = await record("gum-audio-250.webm", place, tmp_path, rotate_every=1.0, path="{session}-{part}")
    control = await record("gum-audio-250.webm", evolve(place, stem="control"), tmp_path)
    assert control.file is not None
    whole = [bytes(f.payload) for f in frames_of(demux([control.file.read_bytes()]))]
    parts = [path for path in files(place) if path != control.file]
    joined = [frames_of(demux([path.read_bytes()])) for path in parts]
    assert len(parts) > 1
    assert [bytes(f.payload) for part in joined for f in part] == whole
    assert all(0 <= part[0].timestamp + 10 * NS_PER_MS < 50 * NS_PER_MS for part in joined)
    assert run.dropped_frames == 0


async def test_a_track_that_lags_behind_the_keyframe_is_not_cut(place: Place) -> None:
    """Sound that comes after the keyframe, but lies before it, is in the new file: that begins with it."""
    hub = Hub(hub_config())
    source = Source(hub, BOTH)
    source.publish(key=True, frames=40)
    hub.publish(BOTH, (Frame(2, 1290 * NS_PER_MS, True, b"a"),), ())
    source.publish(key=True, frames=1)  # at 1320 ms
    hub.publish(BOTH, (Frame(2, 1310 * NS_PER_MS, True, b"b"),), ())
    source.publish(frames=1)
    hub.end()
    run = recording(hub, place, rotate_every=1.0)
    await run.run()
    second = frames_of(demux([(place.recordings / "s1-2.mkv").read_bytes()]))
    assert [(f.track, f.timestamp // NS_PER_MS) for f in second] == [(1, 30), (2, 20), (1, 63)]
    assert run.dropped_frames == 0


async def test_a_track_that_stopped_long_ago_does_not_delay_the_next_file(place: Place) -> None:
    """A file begins with its keyframe when the sound ended seconds before; sound of then is counted out."""
    hub = Hub(hub_config())
    source = Source(hub, BOTH)
    hub.publish(BOTH, (Frame(2, 0, True, b"a"),), ())
    source.publish(key=True, frames=100)
    source.publish(key=True, frames=2)
    hub.publish(BOTH, (Frame(2, 20 * NS_PER_MS, True, b"b"),), ())
    hub.end()
    run = recording(hub, place, rotate_every=2.0)
    await run.run()
    second = frames_of(demux([(place.recordings / "s1-2.mkv").read_bytes()]))
    assert [(f.track, f.timestamp) for f in second] == [(1, 0), (1, 33 * NS_PER_MS)]
    assert run.dropped_frames == 1


async def test_a_file_says_when_it_begins(place: Place) -> None:
    """DateUTC is the moment of time 0, and the name's date and time are that moment's."""
    hub = Hub(hub_config())
    Source(hub, Configuration((VIDEO,))).publish(key=True)
    hub.end()
    await recording(hub, place, path="{stream}/{date}/{time}-{pipeline}-{sink}").run()
    file = place.recordings / "cam" / "2023-11-14" / "221320-p-file.mkv"
    _, found, rest = file.read_bytes().partition(b"\x44\x61\x88")
    assert found
    since_2001 = int.from_bytes(rest[:8], "big") / 1e9
    assert since_2001 + 978_307_200 == pytest.approx(BEGAN, abs=0.5)


async def test_a_slow_finish_does_not_hold_up_the_next_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one file is being finished the frames of the next are written; the end waits for both."""
    began, go_on = trio.Event(), trio.Event()
    real = module.publish

    async def slow(*args: Any) -> None:
        began.set()
        await go_on.wait()
        await real(*args)

    monkeypatch.setattr(module, "publish", slow)
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    run = recording(hub, place, rotate_every=1.0)
    async with trio.open_nursery() as nursery:
        source.publish(key=True, frames=40)
        nursery.start_soon(run.run)
        source.publish(key=True, frames=40)
        await began.wait()
        source.publish(key=True, frames=40)
        hub.end()
        with trio.fail_after(20):
            while run.sent_frames < 120:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert [path.suffix for path in files(place)] == [PART] * 3
        assert run.health.state is State.RUNNING
        go_on.set()
    assert [path.name for path in files(place)] == ["s1-2.mkv", "s1-3.mkv", "s1.mkv"]
    assert run.health.state is State.STOPPED


async def test_what_cannot_be_finished_is_tried_again_with_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure beside the recording is told, costs no attempt, and is made good when the next file ends."""
    failures = 1
    real = module.publish

    async def failing(*args: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await real(*args)

    monkeypatch.setattr(module, "publish", failing)
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    for _ in range(3):
        source.publish(key=True, frames=40)
    hub.end()
    run = recording(hub, place, rotate_every=1.0)
    await run.run()
    assert [path.name for path in files(place)] == ["s1-2.mkv", "s1-3.mkv", "s1.mkv"]
    assert (run.health.attempts, run.finished) == (1, 3)
    assert "recording_not_ready" in capsys.readouterr().out


async def test_what_can_never_be_finished_stays_and_does_not_keep_others_from_it(
    place: Place, autojump_clock: MockClock
) -> None:
    """If a name is taken meanwhile that file stays a part and the sink has failed; the others are whole."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    run = recording(hub, place, rotate_every=1.0)
    source.publish(key=True, frames=40)

    async def take_its_name() -> None:
        while run.sent_frames == 0:  # noqa: ASYNC110
            await trio.sleep(0.01)
        (place.recordings / "s1.mkv").write_bytes(b"precious")
        source.publish(key=True, frames=40)
        hub.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_its_name)
        with pytest.raises(FatalFailure, match="File exists"):
            await run.run()
    assert [path.name for path in files(place)] == ["s1-2.mkv", "s1.mkv", "s1.mkv.part"]
    assert (place.recordings / "s1.mkv").read_bytes() == b"precious"


async def test_a_crash_after_rotations_is_recovered(place: Place) -> None:
    """What a daemon leaves when it dies between rotations becomes the files that were to be."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    run = recording(hub, place, rotate_every=1.0, path="{session}/{part}")
    before = open_files()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            source.publish(key=True, frames=40)
        nursery.start_soon(run.run)
        while run.sent_frames < 120:  # noqa: ASYNC110
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert open_files() == before
    await recover(place.recordings, program("ffmpeg"))
    names = [path.relative_to(place.recordings).as_posix() for path in place.recordings.rglob("*.*")]
    assert sorted(names) == ["s1/001.mkv", "s1/002.mkv", "s1/003.mkv"]
    for name in names:
        assert len(frames_of(demux([(place.recordings / name).read_bytes()]))) == 40
