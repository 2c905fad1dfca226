"""A ring of messages for viewers: encoded once, kept for those who come late or lag."""

from __future__ import annotations

import time
from collections import deque

from attrs import define, field, frozen

#: What a message costs besides its bytes, roughly: a bound in bytes must hold for tiny messages, too.
_OVERHEAD = 256


@frozen(slots=True, eq=False)
class Init:
    """An init segment: what *session*'s media is from here on. *media* is its type, for a Media Source.

    *started* is when the session began, in seconds since 1970.
    """

    media: str
    segment: bytes
    session: str
    started: float

    @property
    def live(self) -> int:
        """Milliseconds since the session began."""
        return round((time.time() - self.started) * 1000)


@frozen(slots=True, eq=False)
class Message:
    """One WebSocket message for all viewers: its *frame*, whose payload begins at byte *head*.

    A media segment belongs to an *init*; it has *frames* media frames, the relay had *first* before it, and
    its first one is shown at *time* (ms). One that *starts* begins at a random access point. A text has no
    *init*; after one that *ends* a session, a plain body is over.
    """

    frame: bytes
    head: int
    arrival: float
    init: Init | None = None
    starts: bool = False
    first: int = 0
    frames: int = 0
    time: int = 0
    ends: bool = False

    @property
    def payload(self) -> memoryview:
        """What a plain body has of it."""
        return memoryview(self.frame)[self.head :]


@define(eq=False)
class Ring:
    """Messages by number, from 0. What is kept begins at a random access point and takes *memory* bytes.

    A part from one random access point to the next goes when all of it is more than *max_lag* seconds
    older than the newest message, or when there is no room. The newest message can always be had.
    """

    memory: int
    max_lag: float
    end: int = 0
    size: int = 0
    peak: int = 0
    _kept: deque[Message] = field(factory=deque)
    _starts: deque[int] = field(factory=deque)
    _newest: Message | None = None

    @property
    def begin(self) -> int:
        """The number of the oldest message that is kept; `end` if none is."""
        return self.end - len(self._kept)

    @property
    def newest_start(self) -> int | None:
        """The number of the newest message at which somebody can begin to watch."""
        return self._starts[-1] if self._starts else None

    def append(self, message: Message) -> None:
        """Add the newest *message*."""
        self._newest = message
        if message.starts:
            self._starts.append(self.end)
        self.end += 1
        if not self._kept and not message.starts:
            return  # Nobody could begin with it.
        self._kept.append(message)
        self.size += len(message.frame) + _OVERHEAD
        self._trim(message.arrival)
        self.peak = max(self.peak, self.size)

    def at(self, number: int) -> Message | None:
        """Message *number*, or None if it is not (or no longer) there."""
        begin = self.begin
        if begin <= number < self.end:
            return self._kept[number - begin]
        return self._newest if number == self.end - 1 else None

    def lag_at(self, number: int) -> float:
        """How many seconds older message *number* is than the newest; 0 for one that is not there."""
        message = self.at(number)
        return 0.0 if message is None or self._newest is None else self._newest.arrival - message.arrival

    def close(self, *, keep: bool) -> None:
        """A session is over: nobody can begin with what there is, which some may want to *keep* up with."""
        self._starts.clear()
        if not keep:
            self._drop_to(self.end)

    def _trim(self, now: float) -> None:
        while self._kept:
            begin = self.begin
            following = next((start for start in self._starts if start > begin), None)
            if self.size > self.memory:
                self._drop_to(self.end if following is None else following)
            elif following is not None and now - self._kept[following - begin].arrival > self.max_lag:
                self._drop_to(following)
            else:
                return

    def _drop_to(self, number: int) -> None:
        while self._kept and self.begin < number:
            self.size -= len(self._kept.popleft().frame) + _OVERHEAD
        while self._starts and self._starts[0] < number:
            self._starts.popleft()
