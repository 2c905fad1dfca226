"""The clocks that judge a publisher, in virtual time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from ingestd.config import Ingest
from ingestd.sources.framing import FrameWatch
from ingestd.sources.heartbeat import MIN_RATE, Vitals, wait_fault
from ingestd.sources.wire import Wire
from tests.sources.receiving import BINARY, frame

CONFIG = Ingest(ping_interval=10, ping_timeout=10, idle_timeout=60)


@pytest.fixture
async def wire() -> Wire:
    return Wire(cast("Any", None), FrameWatch(2**24), b"")


def received(wire: Wire, data: bytes) -> None:
    """As if *data* came now."""
    wire.received_at = trio.current_time()
    wire.watch.feed(data, wire.received_at)


@pytest.mark.parametrize(
    ("begin", "code", "after"),
    [("ping", 4410, 10), ("send", 4410, 10), ("message", 4408, 20), ("nothing", 4408, 60)],
)
async def test_each_fault_after_its_own_time(
    wire: Wire, autojump_clock: MockClock, begin: str, code: int, after: float
) -> None:
    """Not before it, and at most half the shortest time later."""
    stuck = ExitStack()
    vitals = Vitals(CONFIG, wire)
    if begin == "ping":
        vitals.pinged()
    elif begin == "send":
        stuck.enter_context(vitals.sending())
    elif begin == "message":
        received(wire, frame(BINARY, bytes(100))[:50])
    began = trio.current_time()
    with stuck:
        assert (await wait_fault(vitals)).code == code
    assert after <= trio.current_time() - began <= after + 5.1


async def test_a_pause_of_our_own_drops_nobody(wire: Wire, autojump_clock: MockClock) -> None:
    """After a stopped process goes on, what waits to be read is read before anyone is judged."""
    vitals, faults = Vitals(CONFIG, wire), []

    async def judge() -> None:
        faults.append(await wait_fault(vitals))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(judge)
        for _ in range(3):
            vitals.pinged()
            received(wire, frame(BINARY, bytes(100))[:50])
            await trio.sleep(1)
            autojump_clock.jump(500)
            await trio.sleep(1)
            received(wire, bytes(56))  # ends the message, and shows that the peer is alive
            vitals.answered()
            await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert faults == []


async def test_a_long_message_has_the_time_that_its_bytes_take(wire: Wire, autojump_clock: MockClock) -> None:
    """The grace period, and one second for each `MIN_RATE` bytes that came."""
    vitals = Vitals(CONFIG, wire)
    sent = frame(BINARY, bytes(100 * MIN_RATE))
    received(wire, sent[: 30 * MIN_RATE + 14])
    began = trio.current_time()
    assert (await wait_fault(vitals)).code == 4408
    assert 50 <= trio.current_time() - began <= 55.1


async def test_all_clocks_stand_still_while_we_hold_back(wire: Wire, autojump_clock: MockClock) -> None:
    """And start afresh afterwards."""
    vitals = Vitals(CONFIG, wire)
    vitals.pinged()
    received(wire, frame(BINARY, bytes(100))[:50])
    with vitals.sending():
        with vitals.holding_back():
            with trio.move_on_after(3600):
                await wait_fault(vitals)
            assert vitals.check() is None
        assert vitals.check() is None
    began = trio.current_time()
    assert (await wait_fault(vitals)).code == 4410
    assert 10 <= trio.current_time() - began <= 15.1
