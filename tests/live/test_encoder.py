"""The encoder with real FFmpegs: what of the source is in the program."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from ingestd.config import Audio, Pipeline, SupervisorConfig, Video
from ingestd.live.encoder import Encoder
from ingestd.live.splice import Splicer
from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Header, Kind
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.hls import HlsSink
from tests.live.tools import WitnessedHub, feed, spool
from tests.support.captures import capture
from tests.support.clocks import even_second
from tests.support.counting import read_beeps

FPS = 30
AAC_FRAME = 1024 / 44100
ALL = (0.0, 99.0)


def demuxed(name: str) -> tuple[Header, list[Frame]]:
    """The header and the frames of a capture."""
    events = SniffingDemuxer(max_frame=2**24).feed(capture(name).data())
    frames = [event for event in events if isinstance(event, Frame)]
    return next(event for event in events if isinstance(event, Header)), frames


def slow_source(frames: int, shift: int) -> bytes:
    """The first *frames* pictures of a capture at 20 a second, all but the first *shift* ms late."""
    header, pictures = demuxed("gum-vp8-videoonly-250.webm")
    times = [0, *(n * 50 + shift for n in range(1, frames))]
    muxer = Muxer(header.tracks)
    return muxer.header() + muxer.mux(
        tuple(evolve(f, timestamp=t * NS_PER_MS) for f, t in zip(pictures, times, strict=False))
    )


def recorder(name: str, *, pictures: tuple[float, float] = ALL, sound: tuple[float, float] = ALL) -> bytes:
    """Of a capture the pictures and the sound within the given seconds; the first keyframe stays."""
    header, frames = demuxed(name)
    spans = {t.number: pictures if t.kind is Kind.VIDEO else sound for t in header.tracks}
    muxer = Muxer(header.tracks)
    kept = [
        frame
        for frame in frames
        if spans[frame.track][0] <= frame.timestamp / NS_PER_S < spans[frame.track][1]
    ]
    return muxer.header() + muxer.mux(tuple(kept))


def stamped(name: str, stamp: Callable[[float], float]) -> bytes:
    """A capture whose sound has other timestamps, of what it has (in seconds)."""
    header, frames = demuxed(name)
    sound = next(track.number for track in header.tracks if track.kind is Kind.AUDIO)
    muxer = Muxer(header.tracks)
    return muxer.header() + muxer.mux(
        tuple(
            evolve(f, timestamp=round(stamp(f.timestamp / NS_PER_S) * NS_PER_S)) if f.track == sound else f
            for f in frames
        )
    )


async def encoded(ffmpeg: str, directory: Path, recorders: list[bytes]) -> tuple[Spool, Spool]:
    """The source and the program of *recorders*, ended."""
    video = evolve(Video(), size=(320, 180), fps=FPS, preset="ultrafast")
    pipeline = Pipeline(id="p", video=video, audio=Audio(), sinks=(HlsSink(name="hls"),))
    (directory / "s").mkdir()
    (directory / "p").mkdir()
    async with (
        spool(directory / "s") as source,
        spool(directory / "p", name="program") as program,
    ):
        await feed(source, recorders)
        source.end()
        health = Health("cam", "encoder")
        encoder = Encoder("cam", ffmpeg, pipeline, SupervisorConfig(), source.hub, program, health)
        with trio.fail_after(60):
            await encoder.run()
        assert (health.restarts, health.last_error) == (0, None)
        return source, program


def seconds(spool: Spool, kind: Kind) -> list[float]:
    """The timestamps of the program's pictures or sound."""
    assert isinstance(spool.hub, WitnessedHub)
    return [
        at / NS_PER_S
        for _, configuration, track, at, _, _ in spool.hub.live
        if next(t for t in configuration.tracks if t.number == track).kind is kind
    ]


@pytest.mark.parametrize("shift", [0, 7, 14, 20, 25, 30])
async def test_the_last_picture_is_shown(each_ffmpeg: str, tmp_path: Path, shift: int) -> None:
    """Wherever in a slot the source ends, its last picture has its frame in the program, the last one."""
    frames = 30
    _, program = await encoded(each_ffmpeg, tmp_path, [slow_source(frames, shift)])
    last = (frames - 1) * 50 + shift
    # FFmpeg rounds a half up.
    assert round(program.hub.last_timestamp[1] * FPS / NS_PER_S) == math.floor(last * FPS / 1000 + 0.5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"pictures": (0, 1.5)}, {}, id="pictures-end-early"),
        pytest.param({"sound": (0, 1.5)}, {}, id="sound-ends-early"),
        pytest.param({}, {"sound": (0.8, 99)}, id="sound-begins-late"),
        pytest.param({}, {"sound": (0.8, 99), "pictures": (0, 1.5)}, id="and-pictures-end-early"),
    ],
)
async def test_no_hole_where_recorders_follow_each_other(
    each_ffmpeg: str, tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """A track that ends before the other, or begins after it, leaves no hole between two encoders."""
    vp8, vp9 = recorder("cv-vp8-250.webm", **first), recorder("cv-vp9-250.webm", **second)
    _, program = await encoded(each_ffmpeg, tmp_path, [vp8, vp9, vp8])
    pictures = seconds(program, Kind.VIDEO)
    assert pictures == pytest.approx([n / FPS for n in range(len(pictures))], abs=0.001)
    sound = seconds(program, Kind.AUDIO)
    assert sound == pytest.approx([sound[0] + n * AAC_FRAME for n in range(len(sound))], abs=0.002)
    assert sound[-1] == pytest.approx(pictures[-1], abs=3.0)


def read_program_beeps(program: Spool, out: Path) -> list[float]:
    """When beeps begin in what the encoder made, by way of a file *out*."""
    assert isinstance(program.hub, WitnessedHub)
    muxer = Muxer(program.hub.live[0][1].tracks)
    frames = [Frame(track, at, key, payload) for _, _, track, at, key, payload in program.hub.live]
    out.write_bytes(muxer.header() + muxer.mux(tuple(frames)))
    return read_beeps(out)


async def test_sound_stays_in_its_place_from_recorder_to_recorder(each_ffmpeg: str, tmp_path: Path) -> None:
    """One encoder for recorders of one kind: what a splice leaves between sounds does not add up."""
    source, program = await encoded(each_ffmpeg, tmp_path, [recorder("cv-vp8-250.webm")] * 4)
    beeps = read_beeps(capture("cv-vp8-250.webm").path)
    splices = [life.splice for life in source.intake.lives]
    expected = [at + splice.offset / NS_PER_S for splice in splices if splice for at in beeps]
    assert read_program_beeps(program, tmp_path / "out.mkv") == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        pytest.param(lambda at: at + 0.2 * (1.4 < at <= 1.7), (0.51, 1.51, 2.51, 3.51), id="late-a-while"),
        pytest.param(lambda at: max(at, 1.5) if at > 1.3 else at, (0.51, 1.51, 2.51, 3.51), id="all-at-once"),
        pytest.param(lambda at: at + 0.06 * (at > 1.7), (0.51, 1.51, 2.57, 3.57), id="late-from-then-on"),
        pytest.param(lambda at: at - 0.05 * (at > 1.7), (0.51, 1.51, 2.46, 3.46), id="early-from-then-on"),
        pytest.param(lambda at: at + 0.4 * (at > 1.7), (0.51, 1.51, 2.91, 3.91), id="a-hole"),
        pytest.param(lambda at: at * 1.02, (0.52, 1.54, 2.56, 3.58), id="drifting"),
    ],
)
async def test_sound_goes_by_its_samples_until_it_is_out_of_place(
    each_ffmpeg: str, tmp_path: Path, stamp: Callable[[float], float], expected: tuple[float, ...]
) -> None:
    """Timestamps that tell when a busy browser wrote change nothing; what stays off is put right in time."""
    _, program = await encoded(each_ffmpeg, tmp_path, [stamped("cv-vp8-250.webm", stamp)])
    assert read_program_beeps(program, tmp_path / "out.mkv") == pytest.approx(expected, abs=0.025)


def old_source(begin: int) -> list[bytes]:
    """The frames of a capture, *begin* seconds later, in pieces of ten."""
    events = SniffingDemuxer(max_frame=2**24).feed(capture("cv-vp8-250.webm").data())
    header = next(event for event in events if isinstance(event, Header))
    later = begin * NS_PER_S
    frames = [evolve(e, timestamp=e.timestamp + later) for e in events if isinstance(e, Frame)]
    muxer = Muxer(header.tracks)
    return [muxer.header(), *(muxer.mux(frames[at : at + 10]) for at in range(0, len(frames), 10))]


@pytest.mark.parametrize(
    ("begin", "fps"),
    [
        (even_second("33 bits at 90 kHz", 2), 30),
        (even_second("32 bits of ms", 2), 29.97),
        # Where a rate of which six digits were told would be half a frame off.
        (20_854, 23.976023976),
    ],
)
async def test_a_killed_encoder_goes_on_in_the_next_slot_however_old_the_program(
    each_ffmpeg: str, tmp_path: Path, begin: int, fps: float
) -> None:
    """No slot is left out or filled twice, no sound is missing, keyframes stay on the program's grid."""
    video = evolve(Video(), size=(320, 180), fps=fps, preset="ultrafast")
    pipeline = Pipeline(id="p", video=video, audio=Audio(), sinks=(HlsSink(name="hls"),))
    chunks = old_source(begin)
    (tmp_path / "s").mkdir()
    (tmp_path / "p").mkdir()
    async with (
        spool(tmp_path / "s") as source,
        spool(tmp_path / "p", name="program") as program,
    ):
        # Its times are in place: there was a beginning, long ago.
        source.intake.splicer = Splicer("timeline")
        health, config = Health("cam", "encoder"), SupervisorConfig(backoff=(0.05,))
        encoder = Encoder("cam", each_ffmpeg, pipeline, config, source.hub, program, health)
        program.origin = 0
        await feed(source, chunks[:24])
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(encoder.run)
                while program.hub.last_timestamp.get(1, 0) < (begin + 2) * NS_PER_S:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                assert health.pid is not None
                os.kill(health.pid, signal.SIGKILL)
                await feed(source, chunks[24:])
                source.end()
        assert health.restarts == 1
        assert isinstance(program.hub, WitnessedHub)
        made = [(track, at, key) for _, _, track, at, key, _ in program.hub.live]
    pictures = [at for track, at, _ in made if track == 1]
    slots = [round(at * fps / NS_PER_S) for at in pictures]
    assert slots == list(range(slots[0], slots[0] + len(slots)))
    assert [at // NS_PER_MS for at in pictures] == [math.floor(slot * 1000 / fps + 0.5) for slot in slots]
    assert pictures[-1] > (begin + 4) * NS_PER_S
    sound = [at for track, at, _ in made if track == 2]
    assert all(20 * NS_PER_MS < b - a < 26 * NS_PER_MS for a, b in pairwise(sound))
    keys = [slot for slot, (_, _, key) in zip(slots, (m for m in made if m[0] == 1), strict=True) if key]
    grid = [slot for slot in slots[1:] if slot / fps % 2 < 0.75 / fps or slot / fps % 2 > 2 - 0.25 / fps]
    assert set(grid) <= set(keys)
    assert len(keys) <= len(grid) + 2  # the first frame, and the restart's
