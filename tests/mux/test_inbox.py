"""Webhooks that come twice, late, in any order, or too early."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.mux.events import AssetEvent, LiveStreamEvent, OtherEvent, SimulcastEvent
from ingestd.mux.inbox import Inbox

Applied = list[LiveStreamEvent | SimulcastEvent | AssetEvent]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def inbox(
    *known: str, keep: int = 1000, hold: int = 10, hold_for: float = 60.0
) -> tuple[Inbox, Applied, Clock]:
    applied: Applied = []
    clock = Clock()
    made = Inbox(applied.append, clock, keep, hold, hold_for)
    for stream_id in known:
        made.know(stream_id)
    return made, applied, clock


def event(
    number: int, what: str = "active", at: float | None = None, stream_id: str = "L1"
) -> LiveStreamEvent:
    when = float(number) if at is None else at
    return LiveStreamEvent(id=f"e{number}", at=when, stream_id=stream_id, what=what)


def test_the_second_of_two_is_dropped() -> None:
    box, applied, _ = inbox("L1")
    assert [box.take(event(1)), box.take(event(1))] == ["applied", "duplicate"]
    assert len(applied) == 1


def test_as_many_ids_are_remembered_as_was_said() -> None:
    """The one before is forgotten; then its event is late rather than a duplicate."""
    box, _, _ = inbox("L1", keep=3)
    for number in (1, 2, 3):
        box.take(event(number))
    assert box.take(event(1)) == "duplicate"
    box.take(event(4))
    assert box.take(event(1)) == "late"


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_in_any_order_the_newest_state_stands(order: tuple[int, ...]) -> None:
    box, applied, _ = inbox("L1")
    events = [event(n, what) for n, what in enumerate(("connected", "recording", "active", "idle"))]
    for index in order:
        box.take(events[index])
    assert applied[-1] is events[3]
    assert [each.at for each in applied] == sorted(each.at for each in applied)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["L1", "L2"])), max_size=30))
def test_times_of_a_stream_never_go_back(told: list[tuple[int, str]]) -> None:
    """Each stream for itself."""
    box, applied, _ = inbox("L1", "L2")
    for number, (at, stream_id) in enumerate(told):
        box.take(event(number, at=float(at), stream_id=stream_id))
    for stream_id in ("L1", "L2"):
        times = [each.at for each in applied if each.stream_id == stream_id]
        assert times == sorted(times)


def test_of_the_same_time_the_last_that_came_stands() -> None:
    """It is not older, so nothing says that it is overturned."""
    box, applied, _ = inbox("L1")
    box.take(event(1, "idle", at=5))
    assert box.take(event(2, "active", at=5)) == "applied"
    assert len(applied) == 2


def test_what_says_nothing_of_the_state_is_never_late() -> None:
    """Nor makes it another event late: an ``updated`` may be newer than an ``idle``."""
    box, _, _ = inbox("L1")
    assert box.take(event(1, "updated", at=9)) == "applied"
    assert box.take(event(2, "idle", at=5)) == "applied"
    assert box.take(event(3, "warning", at=1)) == "applied"
    recorded = AssetEvent(id="a", at=1, stream_id="L1", asset_id="A", what="ready")
    assert box.take(recorded) == "applied"


def test_each_simulcast_target_has_a_time_of_its_own() -> None:
    box, applied, _ = inbox("L1")
    box.take(event(1, "active", at=100))
    told = [("T1", 5.0, "errored"), ("T2", 1.0, "starting"), ("T1", 4.0, "broadcasting")]
    outcomes = [
        box.take(SimulcastEvent(id=f"s{n}", at=at, stream_id="L1", target_id=target, what=what))
        for n, (target, at, what) in enumerate(told)
    ]
    assert outcomes == ["applied", "applied", "late"]
    assert len(applied) == 3


def test_an_event_before_the_answer_is_kept_and_applied_then() -> None:
    """In the order of Mux's clock, though it came in another."""
    box, applied, _ = inbox()
    assert box.take(event(2, "active")) == "held"
    assert box.take(event(1, "connected")) == "held"
    assert box.take(event(3, "idle", stream_id="L2")) == "held"
    assert box.take(event(2, "active")) == "duplicate"
    box.know("L1")
    assert [each.id for each in applied] == ["e1", "e2"]
    assert box.held == 1


def test_it_is_kept_for_a_while() -> None:
    box, applied, clock = inbox(hold_for=60)
    box.take(event(1))
    clock.now = 59.9
    box.take(event(2, stream_id="L2"))
    assert box.held == 2
    clock.now = 60.0
    box.know("L1")
    assert applied == []
    assert (box.held, box.dropped) == (1, 1)


def test_so_many_are_kept_and_no_more() -> None:
    """The oldest goes."""
    box, applied, _ = inbox(hold=3)
    for number in range(4):
        box.take(event(number, stream_id=f"L{number}"))
    assert (box.held, box.dropped) == (3, 1)
    box.know("L0")
    box.know("L1")
    assert [each.id for each in applied] == ["e1"]


def test_one_that_is_forgotten_is_a_stranger_again() -> None:
    box, applied, _ = inbox("L1")
    box.take(event(1))
    box.forget("L1")
    assert box.take(event(2)) == "held"
    assert len(applied) == 1


def test_what_mux_answered_itself_makes_older_events_late() -> None:
    box, _, _ = inbox("L1")
    box.passed("L1", 10.0)
    box.passed("L2", 10.0)
    assert box.take(event(1, at=9.9)) == "late"
    assert box.take(event(2, at=10.1)) == "applied"


def test_events_of_other_things_are_ignored() -> None:
    box, applied, _ = inbox("L1")
    assert box.take(OtherEvent(id="o", at=1, type="video.upload.created")) == "ignored"
    assert applied == []
