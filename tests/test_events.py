"""The events of the daemon: numbered, bounded, told at once."""

from __future__ import annotations

import pytest
import trio

from ingestd.events import Event, Events


def test_events_are_numbered_and_told_in_their_order() -> None:
    """A listener has each event before `tell` returns."""
    events, heard = Events(), list[Event]()
    events.listen(heard.append)
    first = events.tell("stream.live", "cam", session="s1")
    second = events.tell("sink.failed", "cam", sink="hls", cause="no room")
    assert heard == [first, second]
    assert (first.number, first.type, first.stream, dict(first.data)) == (
        1, "stream.live", "cam", {"session": "s1"},
    )  # fmt: skip
    assert first.at <= second.at
    assert events.since(0) == ((first, second), 0)
    assert events.since(1) == ((second,), 0)
    assert events.since(2) == ((), 0)


@pytest.mark.parametrize(
    ("keep", "after", "found", "lost"), [(3, 0, 3, 2), (3, 2, 3, 0), (3, 4, 1, 0), (0, 1, 0, 4)]
)
def test_no_more_are_kept_than_asked_for(keep: int, after: int, found: int, lost: int) -> None:
    """Whoever asks too late is told how many are gone."""
    events = Events(keep)
    for number in range(5):
        events.tell("stream.live", f"cam{number}")
    kept, gone = events.since(after)
    assert (len(kept), gone) == (found, lost)
    assert [event.number for event in kept] == list(range(6 - found, 6))


def test_what_is_still_to_come_is_not_lost() -> None:
    """A number of another run may be greater than the last."""
    assert Events().since(10**9) == ((), 0)


async def test_waiting_for_the_next(autojump_clock: trio.testing.MockClock) -> None:
    """All who wait go on, and one who is behind need not wait."""
    events, seen = Events(), list[int]()

    async def follow() -> None:
        await events.wait(0)
        seen.append(events.last)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await trio.sleep(1)
        assert not seen
        events.tell("stream.live", "cam")
    await follow()
    assert seen == [1, 1, 1]


def test_each_run_has_a_name_of_its_own() -> None:
    """Numbers of one process mean nothing in the next."""
    assert Events().run != Events().run
