"""Bit rates between two looks at a stream's status."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field, frozen

PUBLISHER = "publisher"
"""What the rate of the source is called; sinks are ``sink:NAME``."""


@frozen(slots=True)
class _Look:
    at: float
    counts: dict[str, int]


@define(eq=False)
class Rates:
    """Remembers one stream's byte counts for *window* seconds; another session begins anew."""

    window: float = 5.0
    _looks: deque[_Look] = field(factory=deque)
    _session: str | None = None

    def take(self, status: dict[str, Any], now: float) -> dict[str, float]:
        """The rates, in bits a second, up to *now* (seconds on any steady clock). Empty at first."""
        if status.get("session") != self._session:
            self._session = status.get("session")
            self._looks.clear()
        counts = {PUBLISHER: status["bytes"]}
        counts |= {f"sink:{sink['name']}": sink["sent_bytes"] for sink in status["sinks"]}
        self._looks.append(_Look(now, counts))
        while len(self._looks) > 2 and now - self._looks[1].at >= self.window:
            self._looks.popleft()
        first = self._looks[0]
        passed = now - first.at
        if passed <= 0:
            return {}
        return {
            name: 8 * (count - first.counts[name]) / passed
            for name, count in counts.items()
            if name in first.counts
        }
