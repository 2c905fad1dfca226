"""How often: one bucket for each client, one for all, and a table that does not grow."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ingestd.auth import rates
from ingestd.auth.rates import Rates, client

NONE = (0, 0.0)


async def test_one_client_has_its_tries_and_gets_them_back(autojump_clock: MockClock) -> None:
    """Ten in a minute; then one every six seconds."""
    some = Rates((10, 60.0), NONE)
    for _ in range(10):
        assert some.held_back("192.0.2.1") == 0
        some.count("192.0.2.1")
    assert some.held_back("192.0.2.1") == pytest.approx(6)
    assert some.held_back("192.0.2.2") == 0
    await trio.sleep(5.9)
    assert some.held_back("192.0.2.1") == pytest.approx(0.1)
    await trio.sleep(0.11)
    assert some.held_back("192.0.2.1") == 0
    some.count("192.0.2.1")
    assert some.held_back("192.0.2.1") > 5


async def test_all_together_hold_back_those_who_fail_only(autojump_clock: MockClock) -> None:
    """A client without a failure is never held back by the failures of others."""
    some = Rates((10, 60.0), (100, 60.0))
    for i in range(100):
        some.count(f"192.0.2.{i}")
    assert some.held_back("192.0.2.5") == pytest.approx(0.6)
    assert some.held_back("198.51.100.1") == 0
    await trio.sleep(0.61)
    assert some.held_back("192.0.2.5") == 0


async def test_no_limit(autojump_clock: MockClock) -> None:
    some = Rates(NONE, NONE)
    for _ in range(1000):
        some.count("192.0.2.1")
    assert some.held_back("192.0.2.1") == 0


async def test_a_limit_for_all_alone(autojump_clock: MockClock) -> None:
    some = Rates(NONE, (5, 60.0))
    for _ in range(5):
        some.count("192.0.2.1")
    assert some.held_back("192.0.2.1") > 0
    assert some.held_back("192.0.2.2") == 0


async def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """The client that was quiet for the longest is forgotten, one that goes on is not."""
    monkeypatch.setattr(rates, "MAX_CLIENTS", 3)
    some = Rates((1, 60.0), NONE)
    for address in ("a", "b", "c", "a", "d", "e"):
        some.count(address)
    assert [some.held_back(address) > 0 for address in "abcde"] == [True, False, False, True, True]
    assert len(some._clients) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unknown", "unknown", True),
    ],
)
def test_what_counts_as_one_client(one: str, other: str, same: bool) -> None:
    """IPv6 gives everybody a /64; a mapped address is the IPv4 one."""
    assert (client(one) == client(other)) is same
