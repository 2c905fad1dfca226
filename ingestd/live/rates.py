"""How fast media came in lately: what a graph shows to who looks only now."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from attrs import define, field, frozen

from ingestd.live.session import Session

EVERY = 2.0
#: So many of each session: five minutes.
KEPT = 150


@frozen(slots=True)
class Rate:
    """Bits and pictures a second that one session took until *at* (seconds since 1970)."""

    at: float
    bitrate: float
    fps: float


@define(eq=False)
class _Kept:
    rates: deque[Rate] = field(factory=lambda: deque(maxlen=KEPT))
    when: float = 0.0
    size: int = 0
    pictures: int = 0


@define(eq=False)
class Rates:
    """Of the sessions that run, by their streams' names. For Trio's thread only."""

    _kept: dict[Session, _Kept] = field(factory=dict)

    def of(self, session: Session) -> tuple[Rate, ...]:
        """The last `KEPT` rates of *session*, the oldest first; none, if it has ended."""
        return tuple(self._kept[session].rates) if session in self._kept else ()

    def measure(self, sessions: Iterable[Session], now: float) -> None:
        """Note how fast *sessions* were until *now*, and forget all others."""
        before, self._kept = self._kept, {}
        for session in sessions:
            size = session.ingest.size
            pictures = session.source.hub.pictures if session.source is not None else 0
            kept = self._kept[session] = before.get(session) or _Kept(when=now, size=size, pictures=pictures)
            if (seconds := now - kept.when) > 0:
                bitrate, fps = (size - kept.size) * 8 / seconds, (pictures - kept.pictures) / seconds
                kept.rates.append(Rate(time.time(), bitrate, fps))
                kept.when, kept.size, kept.pictures = now, size, pictures
