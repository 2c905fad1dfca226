"""The encoder with real FFmpegs: what of the source is in the program."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio
from attrs import evolve

from ingestd.config import Audio, Pipeline, SupervisorConfig, Video
from ingestd.live.encoder import Encoder
from ingestd.live.supervisor import Health
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Header
from ingestd.media.webm_mux import Muxer
from ingestd.sinks.hls import HlsSink
from tests.live.tools import feed, spool
from tests.support.captures import capture

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
