"""How one of our streams stands at Mux: what we do, what Mux says, and whether the two agree."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import trio
from attrs import define, field

from ingestd.mux.events import LiveStreamEvent

_STATUS = {"connected": "connected", "recording": "connected", "active": "active", "idle": "idle",
           "disconnected": "disconnected", "disabled": "disabled", "enabled": "idle",
           "deleted": "deleted"}  # fmt: skip


class Warned(StrEnum):
    """What is wrong while we push; ``docs/mux.md`` says what to do about each."""

    NOT_ACTIVE = "not_active"
    IDLE = "idle_while_pushing"
    DISABLED = "disabled_while_pushing"
    DELETED = "deleted_while_pushing"
    UNREACHABLE = "mux_unreachable"


@define(eq=False)
class Standing:
    """Of *stream*, which is the live stream *stream_id* at Mux and is pushed there by the sinks *sinks*.

    *status* is Mux's: ``unknown``, ``idle``, ``connected``, ``active``, ``disconnected``, ``disabled`` or
    ``deleted``, *since* then (seconds since 1970, our clock). Sessions and sinks are known by `sink` and
    `session_ended` only.
    """

    stream: str
    stream_id: str
    sinks: frozenset[str]
    status: str = "unknown"
    since: float = field(factory=time.time)
    warning: Warned | None = None
    session: str | None = None
    #: Whether this session has pushed at all; and the sinks that push now, since when (Trio's clock).
    pushed: bool = False
    pushing_since: float | None = None
    heard: float = -1e9
    _running: set[str] = field(factory=set)
    _was_active: bool = False
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @property
    def pushing(self) -> bool:
        return bool(self._running)

    def begun(self, session: str) -> bool:
        """Something of *session* was heard; True if it is another one than before."""
        if session == self.session:
            return False
        self.session, self.pushed, self._was_active = session, False, False
        self._running.clear()
        self._settle()
        return True

    def sink(self, name: str, *, running: bool) -> None:
        """The sink *name* of the session pushes, or does not."""
        if name not in self.sinks:
            return
        if running:
            self._running.add(name)
            self.pushed = True
        else:
            self._running.discard(name)
        self._settle()

    def session_ended(self) -> bool:
        """The session is over, and all its sinks with it; True if it had pushed."""
        self._running.clear()
        self._settle()
        pushed, self.pushed = self.pushed, False
        return pushed

    def event(self, event: LiveStreamEvent) -> None:
        """A webhook that counts."""
        self.heard = trio.current_time()
        # After an end of ours, that our connection is gone is no news: nothing is waited for.
        ended = event.what == "disconnected" and self.status in ("idle", "disabled", "deleted")
        if event.what in _STATUS:
            self.enter(self.status if ended else _STATUS[event.what])

    def answered(self, status: str) -> None:
        """What a GET said: ``idle``, ``active`` or ``disabled``. Webhooks tell more than that."""
        self.heard = trio.current_time()
        finer = (status == "idle" and self.status == "connected") or (
            # It is active to Mux while its reconnect window is open.
            status == "active" and self.status == "disconnected" and not self.pushing
        )
        self.enter(self.status if finer else status)

    def enter(self, status: str) -> None:
        if status != self.status:
            self.status, self.since = status, time.time()
        self._was_active |= self.pushing and status == "active"
        self._changed.unpark_all()

    def _settle(self) -> None:
        if not self._running:
            self.pushing_since = None
        elif self.pushing_since is None:
            self.pushing_since = trio.current_time()
            self._was_active |= self.status == "active"
        self._changed.unpark_all()

    def judge(self, active_within: float, *, reachable: bool) -> Warned | None:
        """What is wrong now. Call it with what a GET has just said; *reachable* is whether it could be asked.

        Nothing is, before *active_within* seconds of pushing.
        """
        if self.pushing_since is None or trio.current_time() < self.pushing_since + active_within:
            return None
        if self.status == "active":
            return None
        if not reachable:
            return Warned.UNREACHABLE
        if self.status == "disabled":
            return Warned.DISABLED
        if self.status == "deleted":
            return Warned.DELETED
        return Warned.IDLE if self._was_active else Warned.NOT_ACTIVE

    async def wait(self, seconds: float) -> None:
        """Wait until something has changed, or for *seconds*."""
        with trio.move_on_after(seconds):
            await self._changed.park()

    def unstructure(self) -> dict[str, Any]:
        """As the API shows it; see ``docs/api.md``."""
        return {
            "stream_id": self.stream_id,
            "status": self.status,
            "since": datetime.fromtimestamp(self.since, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "warning": self.warning.value if self.warning else None,
        }
