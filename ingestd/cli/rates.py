"""Bit rates from byte counts that were looked at now and then."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field

PUBLISHER = "publisher"
"""What the rate of the source is called; sinks are ``sink:NAME``."""


@define(eq=False)
class Window:
    """Remembers byte counts by name for *seconds*."""

    seconds: float = 5.0
    _looks: deque[tuple[float, dict[str, int]]] = field(factory=deque)

    def take(self, counts: dict[str, int], now: float) -> dict[str, float]:
        """Add *counts* at *now* (seconds on any steady clock); the bits a second since the oldest look.

        Empty at first, and without the names that the oldest look did not have.
        """
        self._looks.append((now, counts))
        while len(self._looks) > 2 and now - self._looks[1][0] >= self.seconds:
            self._looks.popleft()
        then, before = self._looks[0]
        if now <= then:
            return {}
        return {name: 8 * (counts[name] - before[name]) / (now - then) for name in counts if name in before}


@define(eq=False)
class Rates:
    """The rates of one stream, from its status; another session begins anew."""

    _window: Window = field(factory=Window)
    _session: str | None = None

    def take(self, status: dict[str, Any], now: float) -> dict[str, float]:
        """Look at *status* at *now*, as `Window.take`. Without a publisher nothing flows: empty."""
        if status.get("session") != self._session:
            self._session, self._window = status.get("session"), Window()
        if not status["publisher"]:
            return {}
        counts = {PUBLISHER: status["bytes"]}
        counts |= {f"sink:{sink['name']}": sink["sent_bytes"] for sink in status["sinks"]}
        return self._window.take(counts, now)
