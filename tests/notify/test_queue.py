"""The order in which what waits for an endpoint goes."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ingestd.notify.queue import PATIENCE, Item, Queue
from tests.notify.tools import delivery


def filled(*streams: str) -> Queue:
    """One delivery for each of *streams*, numbered from 1, all due at 0."""
    queue = Queue()
    for number, stream in enumerate(streams, 1):
        queue.put(delivery(number, stream=stream), stream, 1e9)
    return queue


def take_all(queue: Queue, now: float = 0.0) -> list[Item]:
    items = []
    while (item := queue.take(now)) is not None:
        items.append(item)
    return items


def number(item: Item) -> int:
    return int(item.delivery.event_id[-8:])


def fail(queue: Queue, item: Item, due: float) -> None:
    queue.again(item, evolve(item.delivery, attempts=item.delivery.attempts + 1, next_attempt=due))


def test_the_events_of_a_stream_follow_each_other() -> None:
    """One is under way at a time; streams do not wait for each other."""
    queue = filled("a", "a", "b", "a")
    first, third = take_all(queue)
    assert (number(first), number(third), queue.under_way, len(queue)) == (1, 3, 2, 4)
    queue.done(third)
    assert take_all(queue) == []
    queue.done(first)
    [second] = take_all(queue)
    assert number(second) == 2


def test_a_failure_holds_its_stream_up_for_some_attempts() -> None:
    """Then the next one passes, and the failed one goes on by itself."""
    queue = filled("a", "a")
    for attempt in range(PATIENCE):
        [item] = take_all(queue, now=attempt * 10.0)
        assert number(item) == 1
        fail(queue, item, due=attempt * 10.0 + 10)
        assert queue.due() == (attempt * 10.0 + 10 if attempt < PATIENCE - 1 else 0)
    [item] = take_all(queue, now=0.0)
    assert number(item) == 2
    [late] = take_all(queue, now=1000.0)
    assert number(late) == 1


def test_one_that_has_failed_before_waits_for_none() -> None:
    """As an earlier daemon left them: what had failed too often holds up nothing in this one either."""
    queue = Queue()
    queue.put(delivery(1, attempts=PATIENCE, next_attempt=50.0), "cam", 1e9)
    queue.put(delivery(2), "cam", 1e9)
    assert [number(item) for item in take_all(queue)] == [2]
    assert queue.due() == 50.0


def test_nothing_is_taken_twice() -> None:
    """What waits already is not put again, and what is hurried is taken once."""
    queue = filled("a", "a", "a")
    queue.put(delivery(1, stream="a"), "a", 1e9)
    assert len(queue) == 3
    queue.hurry("evt_r_00000003.app", 0.0)
    queue.hurry("evt_r_00000003.app", 0.0)
    queue.hurry("nothing", 0.0)
    assert sorted(map(number, take_all(queue))) == [1, 3]


@pytest.mark.parametrize("which", [1, 2])
def test_one_can_be_hurried(which: int) -> None:
    """Whether it is the first of its stream, that waits for its next attempt, or one behind it."""
    queue = filled("a", "a")
    [item] = take_all(queue)
    fail(queue, item, due=3600.0)
    assert take_all(queue, now=10.0) == []
    queue.hurry(f"evt_r_{which:08}.app", 10.0)
    [hurried] = take_all(queue, now=10.0)
    assert number(hurried) == which


@given(st.lists(st.sampled_from("abc"), max_size=12), st.data())
def test_whatever_happens(streams: list[str], data: st.DataObject) -> None:
    """All get there in the end; of a stream, none passes one that has not failed `PATIENCE` times."""
    queue, now, over, attempts = filled(*streams), 0.0, list[int](), 0
    failing = set(data.draw(st.lists(st.integers(1, 12))))
    while len(queue):
        for item in take_all(queue, now):
            attempts += 1
            if number(item) in failing and item.delivery.attempts < PATIENCE + 2:
                fail(queue, item, now + data.draw(st.sampled_from([0.0, 1.0, 7.0])))
            else:
                over.append(number(item))
                queue.done(item)
        now += 1
        assert attempts < 1000
    assert sorted(over) == list(range(1, len(streams) + 1))
    assert queue.under_way == 0
    assert queue.due() is None
    for stream in set(streams):
        line = [each for each in over if streams[each - 1] == stream and each not in failing]
        assert line == sorted(line)
