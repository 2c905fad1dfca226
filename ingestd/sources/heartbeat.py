"""Is the publisher still there, and does it make progress? Pings, and the clocks that judge it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingestd.config import Ingest
from ingestd.live.publication import Closing
from ingestd.sources.wire import Wire

STALLED = 4408
HALF_OPEN = 4410
MIN_RATE = 16 * 2**10
"""Bytes per second: a message may take the grace period and then this long. No live video is slower."""


class Vitals:
    """The clocks of one connection. All stand still while we hold the publisher back.

    Three things are faults, each after its own time:

    - *half-open* (4410): a ping is unanswered and no byte at all came for ``ping_timeout``. A pong
      that waits behind media on a slow uplink is no fault, so any byte is a sign of life. Or a
      message of ours could not be sent for as long: the peer does not read.
    - *unfinished message* (4408): begun, and not complete after ``ping_interval + ping_timeout``
      plus the time that its bytes take at `MIN_RATE`. Bytes that trickle, or pongs, do not help.
    - *idle* (4408): no message for ``idle_timeout``, where that is not 0.
    """

    def __init__(self, config: Ingest, wire: Wire) -> None:
        self._config = config
        self._wire = wire
        self._grace = config.ping_interval + config.ping_timeout
        self._held = False
        self._pinged_at: float | None = None
        self._sending_since: float | None = None
        self._messages = 0
        self._message_at = self._released_at = trio.current_time()
        bounds = (config.ping_timeout, self._grace, config.idle_timeout)
        self.period = min((bound for bound in bounds if bound > 0), default=1.0) / 4

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """While inside, we do not read: nothing can be told of the peer, and nothing held against it.

        Its pongs and its message ends then lie unread in our buffers, so all clocks start afresh after it.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._released_at = trio.current_time()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """While inside, we wait for the peer to read."""
        self._sending_since = trio.current_time()
        try:
            yield
        finally:
            self._sending_since = None

    @property
    def held(self) -> bool:
        return self._held

    def pinged(self) -> None:
        self._pinged_at = trio.current_time()

    def answered(self) -> None:
        self._pinged_at = None

    def check(self) -> Closing | None:
        """The fault that the publisher is in now, if any."""
        now, watch = trio.current_time(), self._wire.watch
        if watch.messages != self._messages:
            self._messages, self._message_at = watch.messages, self._wire.received_at
        if self._held:
            return None

        def overdue(since: float | None, allowed: float) -> bool:
            return since is not None and now - max(since, self._released_at) >= allowed

        if overdue(watch.unfinished_since, self._grace + watch.message_bytes / MIN_RATE):
            return Closing(STALLED, f"stalled: a message was begun, and not complete after {self._grace:g} s")
        if self._pinged_at is not None and overdue(
            max(self._pinged_at, self._wire.received_at), self._config.ping_timeout
        ):
            return Closing(HALF_OPEN, f"half-open: no pong for {self._config.ping_timeout:g} s")
        if overdue(self._sending_since, self._config.ping_timeout):
            return Closing(HALF_OPEN, f"half-open: nothing was read for {self._config.ping_timeout:g} s")
        if overdue(self._message_at, self._config.idle_timeout or math.inf):
            return Closing(STALLED, f"stalled: no message for {self._config.idle_timeout:g} s")
        return None


async def ping_forever(connection: WebSocketConnection, vitals: Vitals, interval: float) -> None:
    """Ping every *interval* seconds (0: never), one ping at a time; ends when the connection is closed."""
    if not interval:
        return
    try:
        while True:
            await trio.sleep(interval)
            if not vitals.held:
                vitals.pinged()
                await connection.ping()
                vitals.answered()
    except ConnectionClosed:
        pass  # the task that receives tells why


async def wait_fault(vitals: Vitals) -> Closing:
    """Return the first fault of the publisher that two looks in a row have seen.

    Two, because after a pause of our own (a stopped process, a suspended host) all clocks are late
    while the bytes that prove the publisher alive still wait to be read.
    """
    last: Closing | None = None
    while True:
        await trio.sleep(vitals.period)
        fault = vitals.check()
        if fault is not None and fault == last:
            return fault
        last = fault
