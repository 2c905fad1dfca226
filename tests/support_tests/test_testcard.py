"""The test card is shaped as a browser's recording is, and carries what the counting reads."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from ingestd.media.frames import Frame, Header, Kind, SegmentStart
from ingestd.media.webm_demux import Demuxer
from ingestd.testcard import CardFailed, test_card_chunks
from tests.support import counting


async def record(ffmpeg: str, seconds: float = 6.0, seed: int = 0) -> list[bytes]:
    return [chunk async for chunk in test_card_chunks(ffmpeg, seconds=seconds, seed=seed, realtime=False)]


async def test_carries_numbers_clock_beep_and_flash(each_ffmpeg: str, tmp_path: Path) -> None:
    """Numbers skip where a frame was dropped, times follow them, sound and picture are together."""
    path = tmp_path / "card.webm"
    path.write_bytes(b"".join(await record(each_ffmpeg)))
    frames = counting.read_video(path)
    assert frames[0] == (0.0, 0)
    assert counting.continuous(frames)
    assert 23 * 6 <= len(frames) < 30 * 6
    assert all(-0.001 <= pts - number / 30 < 0.0075 for pts, number in frames)
    assert counting.decode_errors(path) == []
    assert counting.av_offset(path) == pytest.approx(0, abs=0.007)
    assert counting.read_beeps(path) == pytest.approx([1, 2, 3, 4, 5], abs=0.002)
    assert counting.duration(path) == pytest.approx(6, abs=0.07)


async def test_is_shaped_as_a_browsers_recording(each_ffmpeg: str) -> None:
    """Unknown sizes, a cluster each 300 ms and at each keyframe, boundaries one byte into an element."""
    chunks = await record(each_ffmpeg)
    data = b"".join(chunks)
    clusters = data.count(b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff")
    events = Demuxer().feed(data)
    starts = [event for event in events if isinstance(event, SegmentStart)]
    assert clusters == len(starts) >= 20
    [header] = [event for event in events if isinstance(event, Header)]
    assert header.doc_type == "webm"
    assert [track.default_duration for track in header.tracks] == [None, None]
    assert all(chunk[-1] in (0xA3, 0x1F) for chunk in chunks[:-1])
    video = {track.number for track in header.tracks if track.kind is Kind.VIDEO}
    first_video = True
    keyframes = 0
    for event in events:
        if isinstance(event, SegmentStart):
            first_video = True
        elif isinstance(event, Frame) and event.track in video:
            assert first_video or not event.keyframe
            first_video = False
            keyframes += event.keyframe
    assert keyframes == 2


async def test_the_seed_decides_what_is_dropped(ffmpeg: str) -> None:
    """The same seed gives the same frame times and boundaries, another one others."""

    def times(chunks: list[bytes]) -> list[int]:
        return [event.timestamp for event in Demuxer().feed(b"".join(chunks)) if isinstance(event, Frame)]

    first, again, other = [await record(ffmpeg, 2, seed) for seed in (1, 1, 2)]
    assert times(first) == times(again) != times(other)


async def test_realtime_follows_the_clock(ffmpeg: str) -> None:
    """No chunk comes before its last frame's moment."""
    begin = trio.current_time()
    demuxer, newest = Demuxer(), 0
    async for chunk in test_card_chunks(ffmpeg, seconds=1.5):
        assert trio.current_time() - begin >= newest / 1e9
        newest = max(
            [newest, *(event.timestamp for event in demuxer.feed(chunk) if isinstance(event, Frame))]
        )
    assert newest > 1.3e9


@pytest.mark.usefixtures("no_processes_left")
async def test_leaving_early_reaps_ffmpeg(ffmpeg: str) -> None:
    """Neither a consumer that stops nor a cancelled one leaves FFmpeg behind."""
    async with aclosing(test_card_chunks(ffmpeg)) as chunks:
        assert await anext(chunks)
    with trio.move_on_after(1.0) as scope:
        async with aclosing(test_card_chunks(ffmpeg)) as chunks:
            async for _ in chunks:
                pass
    assert scope.cancelled_caught


async def test_a_failing_ffmpeg_is_reported(tmp_path: Path) -> None:
    """The error carries the last thing that FFmpeg said."""
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho \"Unknown encoder 'libvpx'\" >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(CardFailed, match="Unknown encoder 'libvpx'"):
        await record(str(fake))
