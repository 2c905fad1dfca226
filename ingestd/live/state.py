"""How a stream stands, in one word."""

from __future__ import annotations

from enum import StrEnum


class StreamState(StrEnum):
    """Of a stream by its newest session; `idle` without one."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LIVE = "live"
    INTERRUPTED = "interrupted"
    ENDED = "ended"
    FAILED = "failed"
