"""The hub and its subscriptions, on made-up frames."""

from __future__ import annotations

import gc
import itertools
import random
import weakref

import pytest
import trio
import trio.testing

from ingestd.live.batch import Configuration, Mark
from ingestd.live.hub import Hub
from ingestd.media.frames import NS_PER_MS, Frame
from tests.live.tools import AUDIO, BOTH, VIDEO, Source, at_hand, drain, hub_config, seen

pytestmark = pytest.mark.usefixtures("bare_frames")


@pytest.fixture
def hub() -> Hub:
    return Hub(hub_config())


@pytest.mark.parametrize("policy", ["journal", "skip"])
async def test_begins_at_the_newest_random_access_point(hub: Hub, policy: str) -> None:
    """A subscription without a start begins with the newest keyframe, with its configuration."""
    source = Source(hub)
    for index in range(20):
        source.publish(key=index % 8 == 0, frames=3)
    subscription = hub.subscribe(policy)  # type: ignore[arg-type]
    batch = await subscription.receive()
    assert batch.first == 48
    assert batch.frames[0].keyframe
    assert batch.configuration is BOTH


async def test_waits_for_the_next_random_access_point_when_there_is_none(hub: Hub) -> None:
    """Frames before the first keyframe that it can have are passed over, and are not counted as dropped."""
    source = Source(hub)
    source.publish(frames=4)
    subscription = hub.subscribe("journal")
    source.publish(frames=2)
    source.publish(key=True, frames=2)
    batch = await subscription.receive()
    assert (batch.first, batch.frames[0].keyframe) == (6, True)
    assert subscription.statistics().dropped == 0


async def test_starts_in_the_middle_of_a_batch(hub: Hub) -> None:
    """A random access point inside a batch is begun at exactly, with what follows it in the batch."""
    frames = tuple(Frame(1, i * NS_PER_MS, i == 3, b"abc") for i in range(6))
    hub.publish(BOTH, frames, (Mark(3, 3 * NS_PER_MS, BOTH),))
    batch = await hub.subscribe("journal").receive()
    assert (batch.first, len(batch.frames), batch.size) == (3, 3, 9)


async def test_an_end_drains(hub: Hub) -> None:
    """After the end a subscription gets all that is left, then EndOfChannel, each time it asks."""
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("journal")
    source.publish(frames=5)
    hub.end()
    assert [frame[0] for frame in await drain(subscription)] == [0, 1, 2, 3, 4, 5]
    for _ in range(2):
        with pytest.raises(trio.EndOfChannel):
            await subscription.receive()


async def test_an_end_without_any_start(hub: Hub, autojump_clock: trio.testing.MockClock) -> None:
    """A subscription that never found a keyframe ends with the hub, also while it waits."""
    Source(hub).publish(frames=5)
    subscription = hub.subscribe("skip")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, subscription)
        await trio.sleep(1)
        hub.end()


async def test_cancellation_of_receive_loses_nothing(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """A receive that is cancelled while it waits, or as frames come, leaves the cursor where it was."""
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("journal")
    got = []

    async def reader() -> None:
        rng = random.Random(1)
        while True:
            with trio.move_on_after(rng.choice([0, 0.001, 0.01, 0.05])):
                try:
                    got.extend(seen(await subscription.receive()))
                except trio.EndOfChannel:
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        for _ in range(200):
            await trio.sleep(0.01)
            source.publish(frames=2)
        hub.end()
    assert [frame[0] for frame in got] == list(range(401))


async def test_bounded_in_bytes(hub: Hub) -> None:
    """The window holds no more bytes than configured, and says how many it held at most."""
    hub = Hub(hub_config(memory=1000))
    source = Source(hub)
    for index in range(50):
        source.publish(key=index % 5 == 0, payload=b"p" * 90)
    statistics = hub.statistics()
    assert 900 <= statistics["window_bytes"] <= 1000
    assert 900 <= statistics["window_peak_bytes"] <= 1090
    assert hub.window_start == 50 - statistics["window_bytes"] // 90


async def test_one_batch_larger_than_the_window_is_kept(hub: Hub) -> None:
    """A single batch above the bound can still be had by those who are there."""
    hub = Hub(hub_config(memory=100))
    source = Source(hub)
    source.publish(key=True, payload=b"p" * 500)
    subscription = hub.subscribe("journal")
    assert (await subscription.receive()).size == 500


async def test_bounded_in_age(hub: Hub, autojump_clock: trio.testing.MockClock) -> None:
    """What came more than the window's seconds before the newest leaves it, with its random access points."""
    hub = Hub(hub_config(window=10.0))
    source = Source(hub)
    for index in range(30):
        source.publish(key=index % 4 == 0)
        await trio.sleep(1)
    assert hub.window_start == 29 - 10
    oldest = hub.oldest_mark()
    assert oldest is not None
    assert oldest.seq == 20


async def test_skip_cuts_to_the_newest_start_when_behind_by_time(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """Behind by more than max_lag it goes on at the newest keyframe, and each frame left out is counted."""
    hub = Hub(hub_config(max_lag=5.0))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("skip")
    await subscription.receive()
    for index in range(1, 41):
        await trio.sleep(0.25)
        source.publish(key=index % 8 == 0)
    batch = await subscription.receive()
    assert (batch.first, batch.frames[0].keyframe) == (40, True)
    assert subscription.statistics().dropped == 39
    assert subscription.statistics().delivered == 2


async def test_skip_does_not_cut_within_max_lag(hub: Hub, autojump_clock: trio.testing.MockClock) -> None:
    """Behind by no more than max_lag it gets every frame."""
    hub = Hub(hub_config(max_lag=5.0))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("skip")
    for index in range(1, 21):
        await trio.sleep(0.25)
        source.publish(key=index % 8 == 0)
    hub.end()
    assert len(await drain(subscription)) == 21


async def test_skip_keeps_what_it_has_while_there_is_nothing_newer_to_start_from(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """With keyframes further apart than max_lag it plays on, late, and cuts when the next one comes."""
    hub = Hub(hub_config(max_lag=2.0))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("skip")
    for _ in range(10):
        await trio.sleep(1)
        source.publish()
    assert [(await subscription.receive()).first for _ in range(4)] == [0, 1, 2, 3]
    source.publish(key=True)
    batch = await subscription.receive()
    assert (batch.first, batch.frames[0].keyframe) == (11, True)
    assert subscription.statistics().dropped == 7


async def test_skip_that_fell_out_of_the_window_waits_for_the_next_start(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """Out of the window, with no keyframe in it: all up to the next keyframe is dropped and counted."""
    hub = Hub(hub_config(memory=100, max_lag=500.0))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("skip")
    await subscription.receive()
    for _ in range(30):
        source.publish()
    with trio.move_on_after(1) as scope:
        await subscription.receive()
    assert scope.cancelled_caught
    source.publish()
    source.publish(key=True)
    batch = await subscription.receive()
    assert (batch.first, batch.frames[0].keyframe) == (32, True)
    assert subscription.statistics().dropped == 31


@pytest.mark.parametrize("seed", range(12))
async def test_every_frame_since_its_start_is_delivered_or_counted(
    hub: Hub, autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    """Whatever the reader's pace: delivered + dropped = all since the start; after a gap comes a keyframe."""
    rng = random.Random(seed)
    hub = Hub(hub_config(memory=rng.choice([200, 2000, 10**6]), max_lag=rng.choice([0.5, 2.0])))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("skip")
    got = []

    async def reader() -> None:
        while True:
            try:
                got.extend(seen(await subscription.receive()))
            except trio.EndOfChannel:
                return
            await trio.sleep(rng.choice([0, 0, 0.05, 0.3, 3.0]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        for _ in range(400):
            source.publish(key=rng.random() < 0.1, frames=rng.randint(1, 4))
            await trio.sleep(rng.choice([0, 0.03, 0.1]))
        hub.end()
    assert subscription.delivered == len(got)
    assert subscription.delivered + subscription.dropped == hub.next_seq
    for before, after in itertools.pairwise(got):
        assert after[0] > before[0]
        assert after[0] == before[0] + 1 or after[4]


async def test_a_change_of_configuration_comes_at_its_keyframe(hub: Hub) -> None:
    """No batch mixes two configurations, and the new one's first frame is its random access point."""
    source = Source(hub)
    source.publish(key=True, frames=3)
    subscription = hub.subscribe("journal")
    source.configuration = other = Configuration((VIDEO,))
    source.publish(key=True, frames=3)
    hub.end()
    frames = await drain(subscription)
    assert [frame[1] for frame in frames] == [BOTH] * 3 + [other] * 3
    assert [frame[4] for frame in frames] == [True, False, False] * 2
    assert hub.configuration_at(2) is BOTH
    assert hub.configuration_at(3) is other


async def test_audio_only_starts_anywhere() -> None:
    """Without video decoding can start at any frame."""
    only = Configuration((AUDIO,))
    assert only.starts_at(Frame(2, 0, False, b""))
    assert not BOTH.starts_at(Frame(2, 0, True, b""))
    assert BOTH.starts_at(Frame(1, 0, True, b""))


async def test_a_closed_subscription_is_forgotten(hub: Hub) -> None:
    """A closed subscription holds nothing back, is no longer counted, and can be collected."""
    source = Source(hub)
    source.publish(key=True, frames=5)
    kept = hub.subscribe("journal")
    await kept.receive()
    with hub.subscribe("journal") as subscription:
        assert hub.slowest_cursor() == 0
        assert hub.statistics()["subscriptions"] == 2
    subscription.close()
    assert hub.slowest_cursor() == 5
    assert hub.statistics()["subscriptions"] == 1
    reference = weakref.ref(kept)
    kept.close()
    del kept, subscription
    gc.collect()
    assert reference() is None


async def test_without_a_journal_one_that_fell_out_goes_on_at_the_oldest_start(hub: Hub) -> None:
    """Where nothing can be replayed, `journal` goes on at the first keyframe, and counts what it lost."""
    hub = Hub(hub_config(memory=100))
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("journal")
    for index in range(1, 25):
        source.publish(key=index % 4 == 0)
    batch = await subscription.receive()
    assert (batch.first, batch.frames[0].keyframe) == (16, True)
    assert subscription.dropped == 16


async def test_how_far_behind(hub: Hub) -> None:
    """The statistics say how many frames and bytes a subscription is behind."""
    source = Source(hub)
    source.publish(key=True)
    subscription = hub.subscribe("journal")
    await subscription.receive()
    assert subscription.statistics().behind_frames == 0
    assert subscription.statistics().behind_bytes == 0
    source.publish(frames=3, payload=b"12345")
    assert subscription.statistics().behind_frames == 3
    assert subscription.statistics().behind_bytes == 15
    assert len(await at_hand(subscription)) == 1


async def test_marks_by_time(hub: Hub) -> None:
    """Resumes find the random access point before, and the one nearest to, a time on the timeline."""
    source = Source(hub)
    for index in range(9):
        source.publish(key=index % 3 == 0)
    second = 3 * 33 * NS_PER_MS
    assert (before := hub.mark_before(second + NS_PER_MS)) is not None
    assert before.seq == 3
    assert hub.mark_before(-1) is None
    assert (near := hub.mark_near(second * 2 - NS_PER_MS)) is not None
    assert near.seq == 6
