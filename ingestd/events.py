"""What happens to streams, sinks and recordings: numbered events for the API, webhooks and the registry."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import trio
from attrs import define, field, frozen


@frozen(slots=True)
class Event:
    """Something that happened *at* (seconds since 1970) to *stream*; *data* is plain JSON.

    *type* is ``noun.what``, see ``docs/api.md``. *number* counts from 1, without gaps.
    """

    number: int
    at: float
    type: str
    stream: str
    data: Mapping[str, Any]


class Tell(Protocol):
    """Tells what happened to somebody's own stream."""

    def __call__(self, what: str, /, **data: object) -> object:
        """Of type *what*, with *data*; see `Event`."""


def silent(what: str, /, **data: object) -> None:
    """Tell nobody."""


@define(eq=False)
class Events:
    """Keeps the last *keep* events, and tells each to those who listen. For Trio's thread only.

    *run* tells one process from the next, in which the numbers begin anew.
    """

    keep: int = 1000
    run: str = field(factory=lambda: secrets.token_hex(8))
    last: int = 0
    _kept: deque[Event] = field(init=False)
    _listeners: list[Callable[[Event], None]] = field(factory=list)
    _more: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def __attrs_post_init__(self) -> None:
        self._kept = deque(maxlen=self.keep)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call *listener* with each event to come, before `tell` returns. It must not block, nor raise."""
        self._listeners.append(listener)

    def tell(self, what: str, stream: str, /, **data: object) -> Event:
        """Something of type *what* happened just now. Never blocks."""
        self.last += 1
        event = Event(self.last, time.time(), what, stream, data)
        self._kept.append(event)
        for listener in self._listeners:
            listener(event)
        self._more.unpark_all()
        return event

    def since(self, number: int) -> tuple[tuple[Event, ...], int]:
        """The events after *number*, oldest first, and how many of those are lost: they were too many."""
        found = tuple(event for event in self._kept if event.number > number)
        return found, max(0, self.last - number - len(found))

    def before(self, count: int) -> int:
        """The number after which *count* events are kept, or as many as there are."""
        return self.last - min(count, len(self._kept))

    async def wait(self, number: int) -> None:
        """Wait for an event after *number*."""
        await trio.lowlevel.checkpoint()
        while self.last <= number:
            await self._more.park()
