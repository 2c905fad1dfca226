"""The encoder with real FFmpegs: what of the source is in the program."""

from __future__ import annotations

import math
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from attrs import evolve

from ingestd.config import Audio, Pipeline, SupervisorConfig, Video
from ingestd.live.encoder import Encoder
from ingestd.live.splice import Splicer
from ingestd.live.supervisor import Health
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Header
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.hls import HlsSink
from tests.live.tools import WitnessedHub, feed, spool
from tests.support.captures import capture
from tests.support.clocks import even_second

FPS = 30


def slow_source(frames: int, shift: int) -> bytes:
    """The first *frames* pictures of a capture at 20 a second, all but the first *shift* ms late."""
    demuxer = SniffingDemuxer(max_frame=2**24)
    events = demuxer.feed(capture("gum-vp8-videoonly-250.webm").data())
    header = next(event for event in events if isinstance(event, Header))
    pictures = [event for event in events if isinstance(event, Frame)][:frames]
    times = [0, *(n * 50 + shift for n in range(1, frames))]
    muxer = Muxer(header.tracks)
    return muxer.header() + muxer.mux(
        tuple(evolve(f, timestamp=t * NS_PER_MS) for f, t in zip(pictures, times, strict=True))
    )


@pytest.mark.parametrize("shift", [0, 7, 14, 20, 25, 30])
async def test_the_last_picture_is_shown(each_ffmpeg: str, tmp_path: Path, shift: int) -> None:
    """Wherever in a slot the source ends, its last picture has its frame in the program, the last one."""
    frames = 30
    video = evolve(Video(), size=(320, 180), fps=FPS)
    pipeline = Pipeline(id="p", video=video, audio=Audio(), sinks=(HlsSink(name="hls"),))
    (tmp_path / "s").mkdir()
    (tmp_path / "p").mkdir()
    async with (
        spool(tmp_path / "s") as source,
        spool(tmp_path / "p", name="program") as program,
    ):
        await feed(source, [slow_source(frames, shift)])
        source.end()
        health = Health("cam", "encoder")
        encoder = Encoder("cam", each_ffmpeg, pipeline, SupervisorConfig(), source.hub, program, health)
        with trio.fail_after(60):
            await encoder.run()
        last = (frames - 1) * 50 + shift
        # FFmpeg rounds a half up.
        assert round(program.hub.last_timestamp[1] * FPS / NS_PER_S) == math.floor(last * FPS / 1000 + 0.5)


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
        encoder._origin = 0
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
