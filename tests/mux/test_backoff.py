"""Delays between attempts, and what ``Retry-After`` says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.mux.backoff import FIRST, LARGEST, LONGEST, Backoff, http_date, retry_after

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_full_jitter_below_a_bound_that_doubles(failures: int, random: float) -> None:
    """Anything from 0 to the bound, which stops growing."""
    delay = Backoff(random=lambda: random).delay(failures)
    assert delay == pytest.approx(random * min(LARGEST, FIRST * 2.0 ** min(failures - 1, 60)))


@given(st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_never_before_the_time_that_was_asked_for(asked: float, random: float) -> None:
    """But for the cap; the jitter comes on top."""
    delay = Backoff(random=lambda: random).delay(1, asked)
    assert min(asked, LONGEST) <= delay <= min(asked, LONGEST) + FIRST


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 10, None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        ("Sun Nov  6 08:50:37 1994", 60.0),
        ("Sun, 06 Nov 1994 08:40:37 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:40:37 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=80))
def test_no_header_breaks_it(text: str) -> None:
    waits = retry_after(text, NOW)
    assert waits is None or waits >= 0
    http_date(text)
