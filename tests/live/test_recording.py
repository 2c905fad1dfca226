"""Recordings that the daemon writes: seekable at the end, repaired after a crash, never overwritten."""

# ruff: noqa: ASYNC240  the tests look at small files

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from ingestd.config import SupervisorConfig
from ingestd.errors import FatalFailure
from ingestd.live import recording as module
from ingestd.live.hub import Configuration, Hub
from ingestd.live.part import PART, repair
from ingestd.live.recording import Recording
from ingestd.live.recovery import recover
from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health, State
from ingestd.media.frames import NS_PER_MS, Frame, SegmentStart
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.tools import AUDIO, VIDEO, Source, WitnessedHub, feed, hub_config, spool
from tests.media.tools import demux, ffmpeg_complaints, frames_of
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, decode_errors, header_duration, read_video
from tests.support.packages import program


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("recordings", "hls"):
        (tmp_path / name).mkdir()
    return Place(stream="cam", recordings=tmp_path / "recordings", hls=tmp_path / "hls", stem="s1")


def recording(hub: Hub, place: Place, kind: str = "mkv") -> Recording:
    return Recording(
        "cam",
        program("ffmpeg"),
        FileSink(name="file", format=kind),  # type: ignore[arg-type]
        place,
        SupervisorConfig(),
        hub,
        Health("cam", "file"),
        clock=lambda: 1_700_000_000.0,
    )


async def record(name: str, place: Place, tmp_path: Path, kind: str = "mkv") -> Recording:
    """Record the whole capture *name*, live."""
    journal = tmp_path / "journal"
    journal.mkdir(exist_ok=True)
    async with spool(journal) as made:
        run = recording(made.hub, place, kind)
        async with trio.open_nursery() as nursery:
            await feed(made, capture(name).chunks()[:3])
            nursery.start_soon(run.run)
            await feed(made, capture(name).chunks()[3:])
            made.hub.end()
        assert run.sent_frames == made.hub.next_seq
    return run


def seeks(path: Path, at: float) -> float:
    """The pts of the first video packet that ffprobe gets when it seeks to *at*."""
    done = subprocess.run(
        [program("ffprobe"), "-v", "error", "-select_streams", "v", "-read_intervals", f"{at}%+#1",
         "-show_entries", "packet=pts_time", "-of", "csv=p=0", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[0].strip(","))


async def test_a_recording_is_seekable_and_plays(place: Place, tmp_path: Path) -> None:
    """At the end there is one file with duration and cues, whose frames are the source's."""
    run = await record("cv-vp8-250.webm", place, tmp_path)
    assert [path.name for path in place.recordings.iterdir()] == ["s1.mkv"]
    file = place.recordings / "s1.mkv"
    assert run.file == file
    assert run.health.state is State.STOPPED
    assert decode_errors(file) == []
    control = read_video(capture("cv-vp8-250.webm").path)
    assert_same_frames(read_video(file), control, align=True)
    duration = header_duration(file)
    assert duration == pytest.approx(control[-1][0] - control[0][0], abs=0.2)
    assert seeks(file, duration - 0.05) > 1
    assert run.sent_bytes == pytest.approx(file.stat().st_size, rel=0.01)


async def test_a_recording_as_mp4(place: Place, tmp_path: Path) -> None:
    """H.264 and Opus become an MP4 with its index in front; nothing else is left."""
    await record("cv-h264webm-100.mkv", place, tmp_path, "mp4")
    assert [path.name for path in place.recordings.iterdir()] == ["s1.mp4"]
    file = place.recordings / "s1.mp4"
    assert file.read_bytes().find(b"moov") < file.read_bytes().find(b"mdat")
    assert decode_errors(file) == []
    assert_same_frames(read_video(file), read_video(capture("cv-h264webm-100.mkv").path), align=True)


async def test_another_configuration_begins_another_file(place: Place) -> None:
    """A change of the codec configuration ends one file and begins the next; both are whole."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    source.publish(key=True, frames=3)
    source.configuration = Configuration((VIDEO, AUDIO))
    source.publish(key=True, frames=4)
    hub.end()
    await recording(hub, place).run()
    assert sorted(path.name for path in place.recordings.iterdir()) == ["s1-2.mkv", "s1.mkv"]
    for name, count in (("s1.mkv", 3), ("s1-2.mkv", 4)):
        assert len(frames_of(demux([(place.recordings / name).read_bytes()]))) == count


async def test_no_media_no_file(place: Place) -> None:
    """A program that ends without a frame leaves nothing."""
    hub = Hub(hub_config())
    hub.end()
    await recording(hub, place).run()
    assert not list(place.recordings.iterdir())


@pytest.mark.parametrize("taken", ["s1.mkv", "s1.mkv.part"])
async def test_a_name_that_is_taken_is_left_alone(place: Place, taken: str) -> None:
    """A file or a part of the same name stays as it is; the recording takes the next name."""
    (place.recordings / taken).write_bytes(b"precious")
    hub = Hub(hub_config())
    Source(hub).publish(key=True, frames=3)
    hub.end()
    await recording(hub, place).run()
    assert sorted(path.name for path in place.recordings.iterdir()) == sorted([taken, "s1-2.mkv"])
    assert (place.recordings / taken).read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
async def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    place: Place, tmp_path: Path, autojump_clock: MockClock, kind: str
) -> None:
    """When the file's name is taken while it is written, both are kept and the sink has failed."""
    part = tmp_path / "part.mkv"
    muxer = Muxer((AUDIO,), doc_type="matroska")
    part.write_bytes(muxer.header() + muxer.mux([Frame(2, t * NS_PER_MS, True, b"\xfc") for t in (0, 20)]))
    target = place.recordings / f"s1.{kind}"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        await module.publish(part, target, program("ffmpeg"))
    assert target.read_bytes() == b"precious"
    assert part.exists()
    assert [path.name for path in place.recordings.iterdir()] == [target.name]


class Disk:
    """Makes `os.pwrite` fail: after *fails* bytes, *times* times, with a torn write each."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int, times: int) -> None:
        self.after, self.times = after, times
        self.real = os.pwrite
        patch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self.times and offset + len(data) > self.after:
            room = max(0, self.after - offset)
            if room:
                return self.real(fd, data[:room], offset)
            self.times -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(fd, data, offset)


@pytest.mark.parametrize("after", [0, 50, 700, 3000, -1, -150])
async def test_a_full_disk_is_tried_again_from_the_same_frame(
    place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, after: int
) -> None:
    """The header, a cluster or the cues do not fit, three times: then all is there, once, in one file."""
    hub = WitnessedHub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    for index in range(40):
        source.publish(key=index % 5 == 0, frames=2, payload=b"p" * 80)
    hub.end()
    await recording(hub, evolve(place, stem="control")).run()
    control = place.recordings / "control.mkv"
    whole = control.read_bytes()
    control.unlink()
    run = recording(hub, place)
    disk = Disk(monkeypatch, after % len(whole), 3)
    await run.run()
    assert disk.times == 0
    assert (run.health.attempts, run.health.restarts) == (4, 3)
    assert "No space left on device" in str(run.health.last_error)
    assert [path.name for path in place.recordings.iterdir()] == ["s1.mkv"]
    file = place.recordings / "s1.mkv"
    assert file.read_bytes() == whole
    assert [bytes(f.payload) for f in frames_of(demux([whole]))] == [frame[5] for frame in hub.live]
    assert run.dropped_frames == 0


async def test_a_disk_that_stays_full_fails_the_sink(
    place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """After the third retry the recording has failed with its cause; what was written can be recovered."""
    hub = Hub(hub_config())
    source = Source(hub, Configuration((VIDEO,)))
    for _ in range(20):
        source.publish(key=True, payload=b"p" * 300)
    run = recording(hub, place)
    with monkeypatch.context() as patch:
        Disk(patch, 3000, 1000)
        with pytest.raises(FatalFailure, match="No space left on device"):
            await run.run()
    assert run.health.state is State.FAILED
    assert [path.name for path in place.recordings.iterdir()] == ["s1.mkv.part"]
    made = await recover(place.recordings, program("ffmpeg"))
    assert [path.name for path in made] == ["s1.mkv"]
    assert 5 <= len(frames_of(demux([made[0].read_bytes()]))) <= 9


async def part_of(name: str, place: Place, tmp_path: Path) -> bytes:
    """The part as a daemon that dies at the end of the capture leaves it."""
    journal = tmp_path / "journal"
    journal.mkdir(exist_ok=True)
    async with spool(journal) as made:
        await _record_and_die(made, name, place)
    (part,) = place.recordings.glob(f"*{PART}")
    data = part.read_bytes()
    part.unlink()
    return data


async def _record_and_die(made: Spool, name: str, place: Place) -> None:
    run = recording(made.hub, place)
    async with trio.open_nursery() as nursery:
        await feed(made, capture(name).chunks()[:3])
        nursery.start_soon(run.run)
        await feed(made, capture(name).chunks()[3:])
        while run.sent_frames < made.hub.next_seq:  # noqa: ASYNC110
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["cv-vp8-250.webm", "gum-audio-250.webm", "cv-h264webm-100.mkv"])
async def test_a_part_cut_anywhere_is_repaired(place: Place, tmp_path: Path, name: str) -> None:
    """Cut at any byte, a part becomes a seekable file with every whole cluster, and nothing that is torn."""
    data = await part_of(name, place, tmp_path)
    events = demux([data])
    starts = [event.offset for event in events if isinstance(event, SegmentStart)] + [len(data)]
    rng = random.Random(1)
    cuts = {len(data), starts[1], starts[1] + 1, starts[2] - 1, starts[-2], starts[-2] + 6}
    cuts |= {rng.randrange(starts[1], len(data)) for _ in range(60)}
    part = tmp_path / "cut.mkv.part"
    for cut in sorted(cuts):
        part.write_bytes(data[:cut])
        repair(part)
        repaired = part.read_bytes()
        whole = max(start for start in starts if start <= cut)
        size = {start: index for index, start in enumerate(starts)}[whole]
        got = demux([repaired])
        assert sum(isinstance(event, SegmentStart) for event in got) == size
        assert frames_of(got) == frames_of(demux([data[:whole]]))
        # Repairing what is whole changes nothing.
        repair(part)
        assert part.read_bytes() == repaired
        if cut in (len(data), starts[-2] + 6):
            assert header_duration(part) is not None
            assert ffmpeg_complaints(part) == ""
            assert decode_errors(part, fmt="matroska") == []


@pytest.mark.parametrize("tail", [bytes(5000), b"\xff" * 5000, random.Random(1).randbytes(5000)])
async def test_rubbish_at_the_end_of_a_part_is_cut_off(place: Place, tmp_path: Path, tail: bytes) -> None:
    """What a power cut leaves behind the last cluster is not part of the recording."""
    data = await part_of("gum-audio-250.webm", place, tmp_path)
    part = tmp_path / "cut.mkv.part"
    part.write_bytes(data + tail)
    repair(part)
    assert frames_of(demux([part.read_bytes()])) == frames_of(demux([data]))


@pytest.mark.parametrize("content", [b"", b"\x1a", b"no recording at all", bytes(1000)])
async def test_what_is_no_recording_stays_and_is_told(
    place: Place, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part without a whole cluster is neither touched nor in the way of others."""
    part = place.recordings / "s0.mkv.part"
    part.write_bytes(content)
    assert await recover(place.recordings, program("ffmpeg")) == []
    assert part.read_bytes() == content
    assert "recording_not_recovered" in capsys.readouterr().out


async def test_recover_makes_mkv_and_mp4(place: Place, tmp_path: Path) -> None:
    """After a crash each part becomes the file that it was to be; one whose name is taken stays a part."""
    data = await part_of("cv-h264webm-100.mkv", place, tmp_path)
    for name in ("a.mkv", "b.mp4", "c.mkv"):
        (place.recordings / f"{name}.part").write_bytes(data[: -len(data) // 5])
    (place.recordings / "c.mkv").write_bytes(b"precious")
    made = await recover(place.recordings.parent, program("ffmpeg"))
    assert [path.name for path in made] == ["a.mkv", "b.mp4"]
    names = sorted(path.name for path in place.recordings.iterdir())
    assert names == ["a.mkv", "b.mp4", "c.mkv", "c.mkv.part"]
    assert (place.recordings / "c.mkv").read_bytes() == b"precious"
    videos = []
    for path in made:
        assert decode_errors(path) == []
        videos.append(read_video(path))
    assert len(videos[0]) > 10
    assert_same_frames(videos[1], videos[0], align=True)


async def test_a_cancelled_recording_can_be_recovered(place: Place, tmp_path: Path) -> None:
    """A session that is cut short leaves a part with all that was written, and no open file."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    data = await part_of("cv-vp8-250.webm", place, tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    part = place.recordings / "s1.mkv.part"
    part.write_bytes(data)
    (file,) = await recover(place.recordings, program("ffmpeg"))
    control = read_video(capture("cv-vp8-250.webm").path)
    assert_same_frames(read_video(file), control, align=True)


async def test_a_file_system_without_links(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no hard links a recording gets its name all the same, and overwrites nothing."""

    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    run = await record("gum-audio-250.webm", place, tmp_path)
    assert run.file is not None
    assert run.file.exists()
    spare = tmp_path / "spare"
    shutil.copy(run.file, spare)
    with pytest.raises(FileExistsError):
        await module.publish(spare, run.file, program("ffmpeg"))
