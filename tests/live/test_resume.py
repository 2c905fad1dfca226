"""A recording that a later daemon goes on with: its files are those of a run without a crash."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ingestd.config import SupervisorConfig
from ingestd.live.batch import Configuration
from ingestd.live.catalog import Catalog
from ingestd.live.hub import Hub
from ingestd.live.part import PART, Part, part_of
from ingestd.live.recording import Recording
from ingestd.live.recovery import claimed, recover
from ingestd.live.resume import notes_of
from ingestd.live.supervisor import Health, State
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink
from tests.live.programs import (
    Frames,
    Program,
    captured,
    fresh_hub,
    in_files,
    live,
    made_up,
    mortal,
    whole_frames,
)
from tests.live.tools import VIDEO, feed, hub_config, spool
from tests.media.tools import demux, ffmpeg_complaints, header_of
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, decode_errors, header_duration, read_video
from tests.support.packages import program as binary

KINDS = ("plain", "reordered", "intra", "fine", "sound", "changing", "quiet")
BEGAN = 1_700_000_000.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("recordings", "hls", "journal"):
        (tmp_path / name).mkdir()
    return place_in(tmp_path)


def place_in(root: Path) -> Place:
    return Place(
        stream="cam", recordings=root / "recordings", hls=root / "hls", catalog=root / "catalog", stem="s1"
    )


def recording(hub: Hub, place: Place, **options: Any) -> Recording:
    sink = FileSink(name="file", **options)
    journal = place.recordings.parent / "journal"
    return Recording(
        "cam", binary("ffmpeg"), sink, place, SupervisorConfig(), hub, Health("cam", "file"),
        notes_of(journal, sink), clock=lambda: BEGAN,
    )  # fmt: skip


async def control(program: Program, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """What a recording that nothing befalls makes of *program*."""
    root = tmp_path / "control"
    for name in ("recordings", "journal"):
        (root / name).mkdir(parents=True)
    await live(recording(fresh_hub(random.Random(0)), place_in(root), **options), program, random.Random(1))
    return in_files(root / "recordings")


def clear(place: Place) -> None:
    for path in (*place.recordings.rglob("*"), *(place.recordings.parent / "journal").iterdir()):
        if path.is_file():
            path.unlink()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def go_on(place: Place, program: Program, rng: random.Random, **options: Any) -> Recording:
    """A daemon that has all of *program* takes the recording up, to the end."""
    run = recording(fresh_hub(rng), place, **options)
    await live(run, program, rng, at_once=rng.choice((0, rng.randrange(len(program.frames)))))
    assert run.health.state is State.STOPPED
    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rotate", [0.0, 2.0])
async def test_a_daemon_that_dies_at_any_step_costs_no_frame(
    place: Place, tmp_path: Path, kind: str, rotate: float
) -> None:
    """Killed at any file operation, in the middle of a write, too, all goes on as if nothing had been."""
    options = {"rotate_every": rotate, "path": "{session}-{part}"}
    program = made_up(random.Random(kind), kind)
    expected = await control(program, tmp_path, **options)
    assert (len(expected) > 1) == bool(rotate or kind == "changing")
    steps = 0
    while True:
        rng = random.Random(f"{kind} {rotate} {steps}")
        clear(place)
        run = recording(fresh_hub(rng), place, **options)
        with mortal(tmp_path, steps) as disk:
            await live(run, program, rng, at_once=rng.choice((0, 100)))
        died = disk.calls > steps
        resumed = await go_on(place, program, rng, **options)

        assert in_files(place.recordings) == expected, f"seed {kind} {rotate} {steps}: {disk.done}"
        assert resumed.dropped_frames == 0
        assert resumed.finished == len(expected)
        if not died:
            break
        steps += rng.choice((1, 2, 3))
    assert steps > 20


async def cut_off(place: Place, program: Program, rng: random.Random, end: int, **options: Any) -> Recording:
    """A daemon that dies when it has recorded the first *end* frames of *program*."""
    run = recording(fresh_hub(rng), place, **options)
    await live(run, program, rng, at_once=rng.randrange(end), end=end)
    return run


def first_missing(program: Program, frames: Frames) -> int:
    """The place of the first frame of *program* that is not among *frames*, its beginning."""
    seen: dict[int, int] = {}
    for index, (_, frame) in enumerate(program.frames):
        seen[frame.track] = seen.get(frame.track, 0) + 1
        if seen[frame.track] > len(frames.get(frame.track, ())):
            return index
    return len(program.frames)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "changing"])
async def test_a_torn_part_is_gone_on_with_wherever_the_program_begins(
    place: Place, tmp_path: Path, kind: str
) -> None:
    """Cut at any byte, or with rubbish behind it: each frame once, if the program has what is missing."""
    program = made_up(random.Random(kind), kind)
    expected = await control(program, tmp_path)
    for seed in range(25):
        rng = random.Random(f"{kind} {seed}")
        clear(place)
        await cut_off(place, program, rng, rng.randrange(len(program.frames) // 2, len(program.frames)))
        (part,) = place.recordings.glob(f"*{PART}")
        data = part.read_bytes()
        header = header_of(demux([data])).size
        cut = rng.choice((rng.randrange(len(data)), rng.randrange(header), len(data)))
        rubbish = rng.choice((b"", bytes(50), rng.randbytes(5000))) if cut == len(data) else b""
        data = data[:cut]
        part.write_bytes(data + rubbish)
        missing = first_missing(program, whole_frames(data))
        begin = rng.choice([mark for mark in program.marks if mark <= missing])
        run = recording(fresh_hub(rng), place)
        await live(run, program, rng, begin=begin, at_once=rng.randrange(len(program.frames)))
        assert in_files(place.recordings) == expected, f"seed {kind} {seed}"
        assert run.dropped_frames == 0, f"seed {kind} {seed}"


async def test_many_daemons_one_recording(place: Place, tmp_path: Path) -> None:
    """However many daemons die, and whether they got anywhere, in the end all is there once, and closed."""
    before = open_files()
    for seed in range(12):
        rng = random.Random(seed)
        program = made_up(rng, rng.choice(KINDS))
        options = {"rotate_every": rng.choice((0.0, 1.0)), "path": "{session}/{part}"}
        clear(place)
        expected = await control(program, tmp_path / str(seed), **options)
        reached = sorted(rng.randrange(1, len(program.frames)) for _ in range(5))
        for end in reached:
            run = await cut_off(place, program, rng, end, **options)
            assert run.file is not None
            part = part_of(run.file)
            data = part.read_bytes()
            part.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data)), 100))])
        await go_on(place, program, rng, **options)
        assert in_files(place.recordings) == expected, f"seed {seed}"
    assert open_files() == before


async def test_a_part_is_cut_back_before_anything_is_appended(place: Place) -> None:
    """What is torn is gone from the disk at once: another crash must not find it behind what follows."""
    rng = random.Random(3)
    await cut_off(place, made_up(rng, "plain"), rng, 150)
    (path,) = place.recordings.iterdir()
    data = path.read_bytes()
    path.write_bytes(data + rng.randbytes(5000))
    Part.reopen(place.recordings / "s1.mkv").close()
    assert path.read_bytes() == data


async def test_a_part_that_was_finished_behind_its_note_is_gone_on_with(place: Place, tmp_path: Path) -> None:
    """After a power cut the note may be older than the file: that grows on, another crash costs nothing."""
    rng = random.Random(4)
    program = made_up(rng, "plain")
    expected = await control(program, tmp_path)
    await cut_off(place, program, rng, 100)
    (note,) = (place.recordings.parent / "journal").iterdir()
    older = note.read_bytes()
    await go_on(place, Program(program.frames[:150]), rng)
    (place.recordings / "s1.mkv").rename(place.recordings / "s1.mkv.part")
    note.write_bytes(older)
    await cut_off(place, program, rng, len(program.frames))
    assert [path.name for path in place.recordings.iterdir()] == ["s1.mkv.part"]
    await recover(place.recordings, binary("ffmpeg"))
    assert in_files(place.recordings) == expected


@pytest.mark.parametrize("kind", ["plain", "reordered", "sound"])
async def test_what_the_program_has_lost_is_a_gap_that_is_counted(
    place: Place, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the program begins behind the file's end, the same file goes on there; the log says so."""
    rng = random.Random(kind)
    program = made_up(rng, kind)
    end = len(program.frames) // 3
    await cut_off(place, program, rng, end)
    begin = program.mark_near(0.7)
    run = recording(fresh_hub(rng), place)
    await live(run, program, rng, begin=begin)
    kept = [frame for _, frame in (*program.frames[:end], *program.frames[begin:])]
    (frames,) = in_files(place.recordings).values()
    for track, found in frames.items():
        assert [payload for _, _, payload in found] == [f.payload for f in kept if f.track == track]
    assert run.dropped_frames == pytest.approx(begin - end, abs=20)
    assert capsys.readouterr().out.count("recording_gap") == 1


async def test_no_gap_where_the_program_begins_right_behind_the_file(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that begins with the very next frame has lost nothing."""
    rng = random.Random(5)
    program = made_up(rng, "plain")
    mark = program.mark_near(0.5)
    await cut_off(place, program, rng, mark)
    run = recording(fresh_hub(rng), place)
    await live(run, program, rng, begin=mark)
    assert run.dropped_frames == 0
    assert "recording_gap" not in capsys.readouterr().out


async def test_another_configuration_behind_the_file_begins_another(place: Place) -> None:
    """Also if the program has nothing left of the file's own, and other tracks."""
    rng = random.Random(6)
    source, other = Configuration((VIDEO,)), Configuration((evolve(VIDEO, number=3),))
    pictures = [Frame(1, 33 * n * NS_PER_MS, n % 20 == 0, bytes([n])) for n in range(80)]
    program = Program([(source, frame) for frame in pictures[:40]])
    program.frames += [(other, evolve(frame, track=3)) for frame in pictures[40:]]
    for begin in (0, 20, 40):
        clear(place)
        await cut_off(place, program, rng, 40)
        run = recording(fresh_hub(rng), place)
        await live(run, program, rng, begin=begin)
        made = in_files(place.recordings)
        assert {name: list(frames) for name, frames in made.items()} == {"s1-2.mkv": [3], "s1.mkv": [1]}
        assert [len(frames) for tracks in made.values() for frames in tracks.values()] == [40, 40]
        assert (run.dropped_frames, run.finished) == (0, 2)


async def test_a_program_made_again_is_joined_at_a_keyframe(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the frames behind the file's end refer to others than it has, its pictures wait for a keyframe."""
    rng = random.Random(7)
    program = made_up(rng, "plain")
    mark, end = program.mark_near(0.3), program.mark_near(0.5) - 20
    await cut_off(place, program, rng, end)
    other = Program(
        [
            (c, f if i < mark else evolve(f, payload=b"+" + f.payload))
            for i, (c, f) in enumerate(program.frames)
        ]
    )
    run = recording(fresh_hub(rng), place)
    await live(run, other, rng)
    (frames,) = in_files(place.recordings).values()
    joined = next(i for i, (_, _, payload) in enumerate(frames[1]) if payload.startswith(b"+"))
    assert frames[1][joined][1]
    assert [time for time, *_ in frames[2]] == sorted({time for time, *_ in frames[2]})
    lost = sum(f.track == 1 for _, f in program.frames) - len(frames[1])
    assert run.dropped_frames == lost > 0
    assert "recording_gap" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["plain", "reordered", "sound"])
@pytest.mark.parametrize("more", [False, True])
async def test_what_is_finished_is_not_recorded_again(
    place: Place, tmp_path: Path, kind: str, more: bool
) -> None:
    """With everything finished there is nothing to do, unless the program goes on: that is another file."""
    rng = random.Random(kind)
    program = made_up(rng, kind)
    mark = program.mark_near(0.6)
    begun = Program(program.frames[:mark])
    await go_on(place, begun, rng)
    first = in_files(place.recordings)
    stamps = [path.stat().st_mtime_ns for path in place.recordings.iterdir()]
    run = await go_on(place, program if more else begun, rng)
    if not more:
        assert run.name == "s1.mkv"
        assert (run.finished, run.sent_frames) == (1, 0)
        assert in_files(place.recordings) == first
        assert [path.stat().st_mtime_ns for path in place.recordings.iterdir()] == stamps
        return
    assert run.finished == 2
    expected = await control(Program(program.frames[mark:]), tmp_path)
    assert in_files(place.recordings) == {**first, "s1-2.mkv": expected["s1.mkv"]}


async def test_notes_that_cannot_be_read_cost_no_file(place: Place, tmp_path: Path) -> None:
    """Without its notes a recording begins anew beside what is there, which recovery then finishes."""
    rng = random.Random(9)
    program = made_up(rng, "plain")
    expected = await control(program, tmp_path)
    for rubbish in (b"", b"{}", b'{"part": 1}', b'{"part": {"name": "x"}, "reach": []}', bytes(200)):
        clear(place)
        await cut_off(place, program, rng, 100)
        (note,) = (place.recordings.parent / "journal").iterdir()
        note.write_bytes(rubbish)
        await go_on(place, program, rng)
        assert sorted(path.name for path in place.recordings.iterdir()) == ["s1-2.mkv", "s1.mkv.part"]
        (made,) = await recover(place.recordings, binary("ffmpeg"))
        assert len(in_files(place.recordings)["s1.mkv"][1]) > 20
        made.unlink()
        assert in_files(place.recordings) == {"s1-2.mkv": expected["s1.mkv"]}


async def test_a_part_that_is_not_ours_any_more_is_left_alone(place: Place) -> None:
    """If nothing can be made of the part, and the program has lost its beginning, it stays as it is."""
    rng = random.Random(11)
    program = made_up(rng, "plain")
    await cut_off(place, program, rng, 100)
    (part,) = place.recordings.iterdir()
    part.write_bytes(b"precious")
    begin = program.mark_near(0.7)
    run = recording(fresh_hub(rng), place)
    await live(run, program, rng, begin=begin)
    assert part.read_bytes() == b"precious"
    part.unlink()
    (frames,) = in_files(place.recordings).values()
    assert len(frames[1]) == sum(frame.track == 1 for _, frame in program.frames[begin:])


async def test_recovery_leaves_alone_what_a_session_goes_on_with(place: Place) -> None:
    """Parts that a session's notes claim are its business; all others are finished."""
    rng = random.Random(13)
    program = made_up(rng, "plain")
    options = {"rotate_every": 1.0, "path": "{session}/{part}"}
    journal = place.recordings.parent / "journal"
    assert claimed(journal, place.recordings) == set()
    parts: set[Path] = set()
    for dies_at in range(20, 200):
        clear(place)
        with mortal(place.recordings.parent, dies_at):
            await live(recording(fresh_hub(rng), place, **options), program, rng)
        if len(parts := set(place.recordings.rglob(f"*{PART}"))) > 1:
            break
    assert len(parts) > 1
    assert claimed(journal, place.recordings) >= parts
    other = place.recordings / "other.mkv.part"
    other.write_bytes(min(parts).read_bytes())
    made = await recover(
        place.recordings.parent, binary("ffmpeg"), except_for=claimed(journal, place.recordings)
    )
    assert made == [place.recordings / "other.mkv"]
    assert set(place.recordings.rglob(f"*{PART}")) == parts


async def test_what_a_conversion_left_is_removed(place: Place) -> None:
    """At the next start, and nobody else's files."""
    (place.recordings / ".s0.mp4.converting").write_bytes(b"half")
    (place.recordings / "mine.converting").write_bytes(b"whole")
    await recover(place.recordings.parent, binary("ffmpeg"))
    assert [path.name for path in place.recordings.iterdir()] == ["mine.converting"]


def media_of(path: Path) -> bytes:
    """The frames of an MP4 that has its index in front."""
    index, _, media = path.read_bytes().partition(b"mdat")
    assert b"moov" in index
    return media


async def test_a_daemon_that_dies_while_it_makes_an_mp4(place: Place, tmp_path: Path) -> None:
    """Killed at any step of finishing, there is one MP4 with all frames, and nothing else."""
    program = await captured("cv-h264webm-100.mkv", tmp_path)
    await live(
        recording(fresh_hub(random.Random(0)), place_in(tmp_path), format="mp4"), program, random.Random(0)
    )
    expected = read_video(place.recordings / "s1.mp4")
    media = media_of(place.recordings / "s1.mp4")
    clear(place)
    with mortal(tmp_path, None) as disk:
        await go_on(place, program, random.Random(0), format="mp4")
    finishing = len(disk.done) - 1 - disk.done[::-1].index("ftruncate")
    assert disk.done[-4:] == ["link", "unlink", "unlink", "replace"]
    for recovers in (False, True):
        for dies_at in range(finishing, len(disk.done)):
            clear(place)
            with mortal(tmp_path, dies_at):
                await live(
                    recording(fresh_hub(random.Random(0)), place, format="mp4"), program, random.Random(0)
                )
            goes_on = set() if recovers else claimed(tmp_path / "journal", place.recordings)
            await recover(place.recordings, binary("ffmpeg"), except_for=goes_on)
            if not recovers:
                await go_on(place, program, random.Random(1), format="mp4")
            assert [path.name for path in place.recordings.iterdir()] == ["s1.mp4"], dies_at
            assert media_of(place.recordings / "s1.mp4") == media, dies_at
    assert_same_frames(read_video(place.recordings / "s1.mp4"), expected)
    assert decode_errors(place.recordings / "s1.mp4") == []
    (entry,) = Catalog(place_in(tmp_path).catalog / "file.jsonl", place.recordings).finished()
    assert entry.name == "s1.mp4"


@pytest.mark.parametrize("name", ["cv-vp8-250.webm", "cv-h264webm-100.mkv", "gum-audio-250.webm"])
async def test_a_capture_through_three_daemons_plays(place: Place, tmp_path: Path, name: str) -> None:
    """What FFmpeg reads of the file is what it reads of the capture; the last one has it from the journal."""
    program = await captured(name, tmp_path)
    rng = random.Random(name)
    for fraction in (0.4, 0.7):
        await cut_off(place, program, rng, int(fraction * len(program.frames)))
        (part,) = place.recordings.iterdir()
        part.write_bytes(part.read_bytes()[: -rng.randrange(3000)])
    async with spool(tmp_path / "journal", hub=hub_config(memory=2**16)) as made:
        await feed(made, capture(name).chunks())
        made.end()
        run = recording(made.hub, place)
        await run.run()
        assert run.program.window_start > run.program.next_seq - run.sent_frames
    file = place.recordings / "s1.mkv"
    assert run.file == file
    assert run.dropped_frames == 0
    assert run.sent_frames < 0.7 * len(program.frames)
    assert decode_errors(file) == []
    assert ffmpeg_complaints(file) == ""
    if name.startswith("cv-"):
        assert_same_frames(read_video(file), read_video(capture(name).path), align=True)
    assert header_duration(file) == pytest.approx(program.frames[-1][1].timestamp / NS_PER_S, abs=0.2)
