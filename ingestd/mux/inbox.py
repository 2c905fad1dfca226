"""Mux's webhooks as they come: twice, late, in any order, and before we know whom they are about.

Sans-I/O. What comes out is applied once, and in no stream does an older event overturn a newer state.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from ingestd.mux.events import STATES, AssetEvent, LiveStreamEvent, MuxEvent, OtherEvent, SimulcastEvent

Outcome: TypeAlias = Literal["applied", "duplicate", "late", "held", "ignored"]
_About: TypeAlias = LiveStreamEvent | SimulcastEvent | AssetEvent


@frozen(slots=True)
class _Held:
    event: _About
    until: float


@define(eq=False)
class Inbox:
    """*apply* is called for each event that counts. *clock* gives seconds that never go back.

    *keep* event ids are remembered. Events of a live stream that is not (yet) ours wait for *hold_for*
    seconds, *hold* of them at most (the oldest goes first): the webhook may be faster than the answer to
    the create, and Mux tells of all live streams of the environment, others' too.
    """

    apply: Callable[[_About], None]
    clock: Callable[[], float]
    keep: int
    hold: int
    hold_for: float
    dropped: int = 0
    _seen: OrderedDict[str, None] = field(factory=OrderedDict)
    _newest: dict[str, float] = field(factory=dict)
    _targets: dict[str, OrderedDict[str, float]] = field(factory=dict)
    _held: deque[_Held] = field(factory=deque)

    def take(self, event: MuxEvent) -> Outcome:
        """Apply *event*, or keep it, or drop it; and say which."""
        if event.id in self._seen:
            return "duplicate"
        self._seen[event.id] = None
        if len(self._seen) > self.keep:
            self._seen.popitem(last=False)
        self._expire()
        if isinstance(event, OtherEvent):
            return "ignored"
        stream_id = event.stream_id
        if stream_id not in self._newest:
            if len(self._held) >= self.hold:
                self._held.popleft()
                self.dropped += 1
            self._held.append(_Held(event, self.clock() + self.hold_for))
            return "held"
        return self._decide(event, stream_id)

    def know(self, stream_id: str) -> None:
        """The live stream *stream_id* is ours: apply what was held for it, in the order of Mux's clock."""
        if stream_id in self._newest:
            return
        self._newest[stream_id] = 0.0
        self._targets[stream_id] = OrderedDict()
        self._expire()
        mine = [held.event for held in self._held if held.event.stream_id == stream_id]
        self._held = deque(held for held in self._held if held.event.stream_id != stream_id)
        for event in sorted(mine, key=lambda event: event.at):
            self._decide(event, stream_id)

    def forget(self, stream_id: str) -> None:
        """It is not ours any more."""
        self._newest.pop(stream_id, None)
        self._targets.pop(stream_id, None)

    def passed(self, stream_id: str, at: float) -> None:
        """Mux itself said how the live stream stands *at* that time of its clock: what is older is late."""
        if stream_id in self._newest:
            self._newest[stream_id] = max(self._newest[stream_id], at)

    @property
    def held(self) -> int:
        return len(self._held)

    def _decide(self, event: _About, stream_id: str) -> Outcome:
        if isinstance(event, LiveStreamEvent) and event.what in STATES:
            if event.at < self._newest[stream_id]:
                return "late"
            self._newest[stream_id] = event.at
        elif isinstance(event, SimulcastEvent):
            targets = self._targets[stream_id]
            if event.at < targets.get(event.target_id, 0.0):
                return "late"
            targets[event.target_id] = event.at
            targets.move_to_end(event.target_id)
            if len(targets) > _TARGETS:
                targets.popitem(last=False)
        self.apply(event)
        return "applied"

    def _expire(self) -> None:
        now = self.clock()
        while self._held and self._held[0].until <= now:
            self._held.popleft()
            self.dropped += 1


#: Simulcast targets a live stream of which the newest event is remembered; Mux allows 6.
_TARGETS = 32
