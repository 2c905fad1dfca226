"""The ring of log events: numbered without gaps, bounded, and asked without missing or repeating any."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.log_ring import MAX_EVENT, LogRing


def note(ring: LogRing, level: str = "info", **values: Any) -> None:
    ring(None, level, {"event": "something_happened", "level": level, **values})


def events(ring: LogRing, **query: Any) -> list[dict[str, Any]]:
    return [json.loads(entry.text) for entry in ring.page(**{"limit": 100, **query}).entries]


def test_events_are_numbered_and_the_newest_are_shown() -> None:
    ring = LogRing(10)
    for number in range(1, 6):
        note(ring, value=number)
    assert [(e["number"], e["value"]) for e in events(ring, limit=2)] == [(4, 4), (5, 5)]
    assert ring.page(limit=2).next == ring.last == 5


def test_what_is_no_longer_there_is_counted() -> None:
    """Only for one who asks for what came after a number: who asks for the newest has lost nothing."""
    ring = LogRing(3)
    for _ in range(10):
        note(ring)
    assert ring.page(limit=100).lost == 0
    page = ring.page(after=2, limit=100)
    assert ([entry.number for entry in page.entries], page.lost, page.next) == ([8, 9, 10], 5, 10)


def test_level_and_stream_choose() -> None:
    ring = LogRing(10)
    note(ring, "debug", stream="cam")
    note(ring, "warning", stream="cam")
    note(ring, "error", stream="other")
    note(ring, "error")
    assert [e["number"] for e in events(ring, level="warning")] == [2, 3, 4]
    assert [e["number"] for e in events(ring, stream="cam")] == [1, 2]
    page = ring.page(after=2, limit=100, stream="cam")
    assert (page.entries, page.next) == ((), 4)


def test_a_ring_that_keeps_nothing_still_counts() -> None:
    ring = LogRing(0)
    note(ring)
    assert (ring.page(limit=10).entries, ring.page(after=0, limit=10).lost) == ((), 1)


@given(
    keep=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.sampled_from(["debug", "error"]))),
)
def test_following_misses_and_repeats_none(keep: int, steps: list[tuple[int, int, str]]) -> None:
    """Whatever is logged between two questions: what is shown, and what is lost, adds up to all of it."""
    ring, after, shown, lost = LogRing(keep), 0, [], 0
    for count, limit, level in steps:
        for _ in range(count):
            note(ring, level)
        page = ring.page(after=after, limit=limit)
        assert page.next >= after
        lost += page.lost
        shown += [entry.number for entry in page.entries]
        after = page.next
    while (page := ring.page(after=after, limit=3)).entries:
        lost += page.lost
        shown += [entry.number for entry in page.entries]
        after = page.next
    assert shown == sorted(set(shown))
    assert len(shown) + lost == ring.last == after


def test_an_event_that_is_too_long_is_cut() -> None:
    """Its short values stay, and the names of the others; what is logged elsewhere is untouched."""
    ring = LogRing(2)
    event = {"event": "long_story", "level": "info", "stream": "cam", "story": "x" * MAX_EVENT}
    assert ring(None, "info", event) is event
    assert len(event["story"]) == MAX_EVENT
    (kept,) = events(ring)
    assert kept == {"number": 1, "event": "long_story", "level": "info", "stream": "cam", "cut": ["story"]}
    note(ring, **{f"key_{number}": "x" * 200 for number in range(500)})
    assert len(ring.page(limit=1).entries[0].text) <= MAX_EVENT


def test_a_traceback_is_kept_without_local_variables() -> None:
    ring = LogRing(1)

    def fail(key: str) -> int:
        return {}[key[:0]]

    try:
        fail("correct-horse")
    except KeyError as error:
        note(ring, "error", exc_info=error)
    (kept,) = events(ring)
    assert kept["exception"][0]["exc_type"] == "KeyError"
    assert kept["exception"][0]["frames"][-1]["name"] == "fail"
    assert "locals" not in kept["exception"][0]["frames"][-1]
    assert "exc_info" not in kept


@pytest.mark.parametrize("value", [b"\xff", {1, 2}, object(), "\udcff", "\x1b[2J"])
def test_any_value_can_be_kept(value: object) -> None:
    ring = LogRing(1)
    note(ring, value=value)
    ring.page(limit=1).entries[0].text.encode("ascii")


def test_any_thread_may_log() -> None:
    ring = LogRing(10_000)
    threads = [threading.Thread(target=lambda: [note(ring) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e["number"] for e in events(ring, limit=10_000)] == list(range(1, 4001))
