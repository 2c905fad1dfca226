"""The feeder: what an FFmpeg gets to read, and in which times."""

from __future__ import annotations

import pytest
from trio.testing import memory_stream_one_way_pair

from ingestd.live import feeder as module
from ingestd.live.batch import Mark
from ingestd.live.child import Input, Watch
from ingestd.live.feeder import Feeder
from ingestd.live.hub import Hub
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame
from ingestd.media.webm_demux import Demuxer
from tests.live.tools import AUDIO, BOTH, VIDEO, hub_config

DAY = 86_400 * NS_PER_S
#: Where clocks of 31 and 32 bits of milliseconds, and of 33 bits at 90 kHz, begin anew.
OLD = [0, 26 * 3600 * NS_PER_S, 2**31 * NS_PER_MS, 2**32 * NS_PER_MS, 400 * DAY]


def program(begin: int, seconds: int) -> Hub:
    """25 pictures a second from *begin* on, a keyframe every 2 s, a packet of sound 20 ms after each.

    They come in batches of seven, so that a keyframe may lie anywhere in one.
    """
    hub = Hub(hub_config())
    frames, marks = [], []
    for number in range(seconds * 25):
        at = begin + number * 40 * NS_PER_MS
        if number % 50 == 0:
            marks.append(Mark(len(frames), at, BOTH))
        frames.append(Frame(VIDEO.number, at, number % 50 == 0, b"picture"))
        frames.append(Frame(AUDIO.number, at + 20 * NS_PER_MS, True, b"sound"))
    for first in range(0, len(frames), 7):
        batch = tuple(frames[first : first + 7])
        hub.publish(BOTH, batch, tuple(mark for mark in marks if first <= mark.seq < first + len(batch)))
    hub.end()
    return hub


async def runs(feeder: Feeder) -> list[list[Frame]]:
    """The frames of each run, as FFmpeg reads them."""
    found = []
    while await feeder.configuration() is not None:
        send, receive = memory_stream_one_way_pair()
        watch = Watch(stall_timeout=10.0)
        await feeder.feed(Input(send, watch))
        await send.aclose()
        data = b"".join([bytes(part) async for part in receive])
        found.append([event for event in Demuxer().feed(data) if isinstance(event, Frame)])
    return found


@pytest.mark.parametrize("begin", OLD)
async def test_a_run_keeps_the_timeline(begin: int) -> None:
    """To the millisecond, however old it is."""
    hub = program(begin, 10)
    (frames,) = await runs(Feeder(hub.subscribe("journal", hub.oldest_mark())))
    assert len(frames) == 500
    assert [frame.timestamp for frame in frames[::2]] == [begin + n * 40 * NS_PER_MS for n in range(250)]


@pytest.mark.parametrize("begin", OLD)
async def test_a_run_that_begins_anew_is_young(begin: int) -> None:
    """Its times are the timeline's less something, and begin within a second of 0."""
    hub = program(begin, 10)
    (frames,) = await runs(Feeder(hub.subscribe("skip", hub.oldest_mark()), anew=True))
    zero = begin - frames[0].timestamp
    assert frames[0].timestamp == (NS_PER_S if begin else 0)
    assert [frame.timestamp + zero for frame in frames[::2]] == [
        begin + n * 40 * NS_PER_MS for n in range(250)
    ]


async def test_sound_before_the_first_keyframe_is_not_lost() -> None:
    """A track may lag behind the one that has the random access point."""
    hub, at = Hub(hub_config()), DAY
    frames = (
        Frame(VIDEO.number, at, True, b"picture"),
        Frame(AUDIO.number, at - 900 * NS_PER_MS, True, b"late"),
        Frame(AUDIO.number, at, True, b"sound"),
    )
    hub.publish(BOTH, frames, (Mark(0, at, BOTH),))
    hub.end()
    (found,) = await runs(Feeder(hub.subscribe("skip", hub.oldest_mark()), anew=True))
    assert sorted((frame.timestamp // NS_PER_MS, bytes(frame.payload)) for frame in found) == [
        (100, b"late"),
        (1000, b"picture"),
        (1000, b"sound"),
    ]


@pytest.mark.parametrize("longest", [3, 4, 4.02, 5.99])
async def test_a_run_ends_before_it_is_too_old(monkeypatch: pytest.MonkeyPatch, longest: float) -> None:
    """The next one begins with the next keyframe; no frame is lost, and none sent twice."""
    monkeypatch.setattr(module, "_LONGEST", round(longest * NS_PER_S))
    hub = program(0, 20)
    found = await runs(Feeder(hub.subscribe("skip", hub.oldest_mark()), anew=True))
    assert sum(map(len, found)) == 1000
    assert all(frames[0].track == VIDEO.number and frames[0].keyframe for frames in found)
    assert all(frames[0].timestamp == NS_PER_S for frames in found[1:])
    assert all(frames[-1].timestamp < (longest + 2) * NS_PER_S for frames in found)
    assert len(found) > 2


async def test_a_run_on_the_timeline_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST", 3 * NS_PER_S)
    hub = program(0, 20)
    assert len(await runs(Feeder(hub.subscribe("journal", hub.oldest_mark())))) == 1


def test_the_longest_run_is_one_that_rtmp_can_tell() -> None:
    """FFmpeg's FLV muxer writes 31 bits of milliseconds; keyframes come more often than twice a day."""
    assert module._LONGEST + DAY // 2 + module._LAG < 2**31 * NS_PER_MS
