"""When a delivery is tried again: arithmetic only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config import Notify
from ingestd.notify.schedule import JITTER, Schedule, retry_after

DAY = 86_400.0


def test_a_day_of_attempts() -> None:
    """Without jitter: 5 s, 30 s, 2 min, 10 min, 30 min, each hour; the last when the day is over."""
    schedule = Schedule(Notify(), random=lambda: 0.0)
    times = [0.0]
    while (due := schedule.next(len(times), times[-1], DAY, None)) is not None:
        times.append(due)
    assert times[:8] == [0, 5, 35, 155, 755, 2555, 6155, 9755]
    assert times[-2] < times[-1] == DAY
    assert len(times) == 30


@pytest.mark.parametrize(
    ("asked", "now", "due"),
    [
        (None, 0.0, 5.0),
        (2.0, 0.0, 5.0),  # earlier than we would: we keep to ours
        (60.0, 0.0, 60.0),
        (2 * DAY, 0.0, DAY),  # no longer than a day
        (60.0, DAY - 1, DAY + 59),  # the last attempt, when it is welcome
        (None, DAY - 1, DAY),
        (None, DAY, None),
        (60.0, DAY, None),
    ],
)
def test_what_the_endpoint_asks_for(asked: float | None, now: float, due: float | None) -> None:
    """``Retry-After`` may put an attempt off, and brings none closer."""
    assert Schedule(Notify(), random=lambda: 0.0).next(1, now, DAY, asked) == due


@given(
    attempts=st.integers(1, 10_000),
    now=st.floats(0, 2 * DAY),
    asked=st.none() | st.floats(0, 10 * DAY),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_bounds(attempts: int, now: float, asked: float | None, jitter: float) -> None:
    """Never in the past, never later than was asked for or the jitter allows, and it comes to an end."""
    due = Schedule(Notify(), random=lambda: jitter).next(attempts, now, DAY, asked)
    if due is None:
        assert now >= DAY
    else:
        assert now < due <= max(DAY, now + min(asked or 0, DAY))
        assert due <= now + max(3600 * (1 + JITTER), min(asked or 0, DAY)) + 1e-3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 10, None),
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("x" * 100, None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:02:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """A number of seconds, or a date; here it is 100 s past the epoch."""
    assert retry_after(value, 100.0) == seconds
