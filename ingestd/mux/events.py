"""Webhook bodies → typed events; https://docs.mux.com/webhook-reference. Sans-I/O.

A body holds the whole live stream, its stream key included: nothing of it but what is below is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from attrs import frozen

from ingestd.errors import IngestdError
from ingestd.mux.model import Unexpected, identifier

_LIVE, _SIMULCAST, _ASSET = "video.live_stream.", "video.live_stream.simulcast_target.", "video.asset."
_LONGEST_TYPE = 128

#: What a live stream's event says of its state; of the others (created, updated, warning) it says nothing.
STATES = frozenset(
    {"connected", "recording", "active", "disconnected", "idle", "enabled", "disabled", "deleted"}
)


class EventMalformed(IngestdError):
    """A body that is no event of Mux's; the text says what was expected."""


@frozen(slots=True, kw_only=True)
class LiveStreamEvent:
    """*what* is the end of ``video.live_stream.…``: ``active``, ``idle``, …; *at* Mux's clock (epoch, s)."""

    id: str
    at: float
    stream_id: str
    what: str
    passthrough: str = ""


@frozen(slots=True, kw_only=True)
class SimulcastEvent:
    """*what* happened to a simulcast target: ``broadcasting``, ``errored``, …; *severity* when it did."""

    id: str
    at: float
    stream_id: str
    target_id: str
    what: str
    severity: str = ""


@frozen(slots=True, kw_only=True)
class AssetEvent:
    """*what* happened to a recording of a live stream: ``ready``, ``live_stream_completed``, …."""

    id: str
    at: float
    stream_id: str
    asset_id: str
    what: str


@frozen(slots=True, kw_only=True)
class OtherEvent:
    """Of a *type* that is nothing to us, or not of a live stream."""

    id: str
    at: float
    type: str


MuxEvent: TypeAlias = LiveStreamEvent | SimulcastEvent | AssetEvent | OtherEvent


def parse_event(body: bytes) -> MuxEvent:
    """The event in *body*. Unknown types and fields are accepted. Raises `EventMalformed`."""
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        raise EventMalformed("expected a webhook's body in JSON") from None
    if not isinstance(table, dict):
        raise EventMalformed("expected a JSON object")
    try:
        return _event(table)
    except Unexpected as error:
        raise EventMalformed(str(error)) from None


def _event(table: Mapping[str, Any]) -> MuxEvent:
    kind = table.get("type")
    if not (
        isinstance(kind, str) and 0 < len(kind) <= _LONGEST_TYPE and kind.isascii() and kind.isprintable()
    ):
        raise Unexpected(f"expected a type of up to {_LONGEST_TYPE} characters")
    number, at = identifier(table.get("id")), _time(table.get("created_at"))
    data, about = _table(table.get("data")), _table(table.get("object"))
    owner = data.get("live_stream_id")
    if kind.startswith(_SIMULCAST):
        what = kind.removeprefix(_SIMULCAST)
        # Whose it is stands in one place or the other.
        owner = owner or about.get("id")
        return SimulcastEvent(
            id=number, at=at, what=what, target_id=identifier(data.get("id")),
            stream_id=identifier(owner), severity=_word(data.get("error_severity")),
        )  # fmt: skip
    if kind.startswith(_LIVE):
        passthrough = data.get("passthrough")
        return LiveStreamEvent(
            id=number, at=at, what=kind.removeprefix(_LIVE),
            stream_id=identifier(data.get("id") or about.get("id")),
            passthrough=passthrough if isinstance(passthrough, str) else "",
        )  # fmt: skip
    if kind.startswith(_ASSET) and owner:
        what, asset = kind.removeprefix(_ASSET), identifier(data.get("id") or about.get("id"))
        return AssetEvent(id=number, at=at, what=what, asset_id=asset, stream_id=identifier(owner))
    return OtherEvent(id=number, at=at, type=kind)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 32 and value.isprintable() else ""


def _time(value: object) -> float:
    """Seconds since 1970 of an ISO 8601 time (Mux's webhooks), or of such a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if 0 <= number < 1e11:
            return number
    elif isinstance(value, str) and len(value) <= 64:
        try:
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise Unexpected('expected created_at like "2026-01-30T22:38:04.000000Z"')
