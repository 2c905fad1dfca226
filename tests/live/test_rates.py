"""How fast media came in: measured, remembered so long, and forgotten with the session."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.live.rates import EVERY, KEPT, Rates


class Seen(SimpleNamespace):
    """One is not another, whatever it has."""

    __hash__ = object.__hash__


def session(size: int = 0, pictures: int = 0) -> Any:
    """As much of one as is looked at."""
    hub = SimpleNamespace(pictures=pictures)
    return Seen(ingest=SimpleNamespace(size=size), source=SimpleNamespace(hub=hub))


def test_rates_are_those_since_the_last_look() -> None:
    """What came before the first look counts for nothing: nobody knows in which time."""
    rates, one = Rates(), session(size=10**6, pictures=500)
    rates.measure([one], 100.0)
    assert rates.of(one) == ()
    one.ingest.size += 500_000
    one.source.hub.pictures += 60
    rates.measure([one], 102.0)
    (rate,) = rates.of(one)
    assert (rate.bitrate, rate.fps) == (pytest.approx(2_000_000), pytest.approx(30))


def test_so_many_are_kept_while_it_runs() -> None:
    """A bound; and nothing of a session that is over."""
    rates, one, other = Rates(), session(), session()
    for number in range(KEPT + 10):
        one.ingest.size = number
        rates.measure([one, other], number * EVERY)
    assert len(rates.of(one)) == KEPT
    rates.measure([other], 10_000.0)
    assert rates.of(one) == ()
    assert len(rates.of(other)) == KEPT


def test_a_session_without_media_yet_has_none_a_second() -> None:
    rates, one = Rates(), session()
    one.source = None
    rates.measure([one], 0.0)
    rates.measure([one], 2.0)
    assert [(rate.bitrate, rate.fps) for rate in rates.of(one)] == [(0, 0)]
