"""A bound on each call to the database that also holds where the server neither answers nor hangs up.

Timeouts of the database's own are kept by the server, and a server that is frozen keeps none. So one
thread watches the calls under way and cuts the connection of one that is overdue, which ends its wait. It
goes by real time, not Trio's: the threads of a test with a virtual clock take real time, too.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from attrs import define, field


@define(eq=False)
class _Call:
    deadline: float
    raw: Any = None
    overdue: bool = False


@define(eq=False)
class Guard:
    """Watches calls; its thread runs while there are any, and a little longer."""

    _calls: set[_Call] = field(factory=set)
    _changed: threading.Condition = field(factory=threading.Condition)
    _here: threading.local = field(factory=threading.local)
    _watching: bool = False

    @contextmanager
    def bound(self, seconds: float) -> Iterator[None]:
        """What this thread does in the block ends after *seconds*, with an error of the driver's."""
        call = self._here.call = _Call(time.monotonic() + seconds)
        with self._changed:
            self._calls.add(call)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="database guard", daemon=True).start()
            self._changed.notify()
        try:
            yield
        finally:
            self._here.call = None
            with self._changed:
                self._calls.discard(call)

    def attach(self, raw: Any) -> None:
        """From now on the call of this thread uses the driver's connection *raw*."""
        call: _Call | None = getattr(self._here, "call", None)
        if call is not None:
            with self._changed:
                call.raw = raw
                if call.overdue:
                    _cut(raw)

    def _watch(self) -> None:
        with self._changed:
            while self._calls:
                now = time.monotonic()
                for call in self._calls:
                    if call.deadline <= now and not call.overdue:
                        call.overdue = True
                        _cut(call.raw)
                deadlines = [call.deadline for call in self._calls if not call.overdue]
                # Ends when it was idle for a second: a thread a burst of calls, not one a call.
                self._changed.wait(max(0.0, min(deadlines, default=now + 1) - now))
                if not self._calls:
                    self._changed.wait(1)
            self._watching = False


def _cut(raw: Any) -> None:
    """End what a thread does with *raw*: an SQLite statement, or the conversation with a server."""
    if raw is None:
        return
    with suppress(Exception):  # it may have been closed meanwhile, in ways that differ by driver
        if hasattr(raw, "interrupt"):
            raw.interrupt()
        else:
            with socket.socket(fileno=os.dup(raw.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)
