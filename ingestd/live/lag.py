"""How late the event loop is: a task that sleeps, and how much longer than it asked for that takes.

A healthy loop is late by less than a millisecond; what blocks it delays every stream at once.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

import trio
from attrs import define, field
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

EVERY = 0.25
#: Upper bounds of the buckets, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@define(eq=False)
class LoopLag(Collector):
    """Counts latenesses in buckets while `run` runs; a Prometheus collector of them."""

    _counts: list[int] = field(factory=lambda: [0] * (len(BOUNDS) + 1))
    _sum: float = 0.0

    async def run(self) -> None:
        """Measure four times a second, until cancelled."""
        while True:
            due = trio.current_time() + EVERY
            await trio.sleep_until(due)
            self.note(trio.current_time() - due)

    def note(self, late: float) -> None:
        """Count one sleep that ended *late* seconds too late."""
        self._counts[bisect.bisect_left(BOUNDS, late)] += 1
        self._sum += max(0.0, late)

    def collect(self) -> Iterator[Metric]:
        """The one histogram."""
        buckets = [
            (bound, float(count))
            for bound, count in zip(
                (*map(str, BOUNDS), "+Inf"), itertools.accumulate(self._counts), strict=True
            )
        ]
        yield HistogramMetricFamily(
            "ingestd_event_loop_lag_seconds",
            "How much later than asked for the event loop woke a task.",
            buckets=buckets,
            sum_value=self._sum,
        )
