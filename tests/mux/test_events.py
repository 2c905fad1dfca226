"""Webhook bodies: those of the documentation, and anything else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.mux.events import (
    AssetEvent,
    EventMalformed,
    LiveStreamEvent,
    OtherEvent,
    SimulcastEvent,
    parse_event,
)
from tests.support.fake_mux import FakeMux

AT = "2026-01-30T22:38:04.500000Z"
TIME = 1769812684.5
BASE = {"id": "e1", "created_at": AT, "environment": {"id": "x", "name": "Production"}, "attempts": []}


def body(**parts: Any) -> bytes:
    return json.dumps({**BASE, **parts}).encode()


@pytest.mark.parametrize(
    "what",
    ["created", "connected", "recording", "active", "disconnected", "idle", "updated", "enabled", "disabled",
     "deleted", "warning", "something_new"],
)  # fmt: skip
def test_events_of_live_streams(what: str) -> None:
    found = parse_event(
        body(
            type=f"video.live_stream.{what}",
            data={"id": "L1", "stream_key": "hidden", "passthrough": "ours"},
        )
    )
    assert found == LiveStreamEvent(id="e1", at=TIME, stream_id="L1", what=what, passthrough="ours")
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    "where", [{"data": {"live_stream_id": "L1"}}, {"object": {"type": "live", "id": "L1"}}]
)
def test_events_of_simulcast_targets(where: dict[str, dict[str, str]]) -> None:
    """Whose target it is stands in the data, or it is what the event is about."""
    data = {
        "id": "T1",
        "status": "errored",
        "error_severity": "fatal",
        "url": "rtmp://x/y",
        **where.get("data", {}),
    }
    found = parse_event(
        body(type="video.live_stream.simulcast_target.errored", data=data, object=where.get("object", {}))
    )
    assert found == SimulcastEvent(
        id="e1", at=TIME, stream_id="L1", target_id="T1", what="errored", severity="fatal"
    )


def test_events_of_recordings() -> None:
    """Those that come from a live stream; what was uploaded is nothing to us."""
    kind = "video.asset.live_stream_completed"
    found = parse_event(body(type=kind, data={"id": "A1", "live_stream_id": "L1"}))
    assert found == AssetEvent(id="e1", at=TIME, stream_id="L1", asset_id="A1", what="live_stream_completed")
    assert isinstance(parse_event(body(type=kind, data={"id": "A1"})), OtherEvent)


@pytest.mark.parametrize("kind", ["video.upload.created", "video.delivery.high_traffic", "x"])
def test_other_types_are_taken_and_are_nothing(kind: str) -> None:
    assert parse_event(body(type=kind, data=None)) == OtherEvent(id="e1", at=TIME, type=kind)


def test_events_of_the_fake_are_those() -> None:
    """The fake sends what is parsed here."""
    fake = FakeMux()
    event = fake.event("video.live_stream.idle", "L1", at=TIME)
    found = parse_event(json.dumps(event).encode())
    assert found == LiveStreamEvent(id="event-000001", at=TIME, stream_id="L1", what="idle")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "a JSON object"),
        (body(type=None), "a type"),
        (body(type="x" * 129), "a type of up to 128"),
        (body(type="x", id=""), "an id"),
        (body(type="x", id="a" * 256), "an id of up to 255"),
        (body(type="x", id="\u202e"), "an id"),
        (body(type="x", created_at="yesterday"), "created_at"),
        (body(type="x", created_at=None), "created_at"),
        (body(type="x", created_at=True), "created_at"),
        (body(type="x", created_at=float("nan")), "created_at"),
        (body(type="x", created_at=10**400), "created_at"),
        (body(type="video.live_stream.idle", data={}), "an id"),
        (body(type="video.live_stream.simulcast_target.idle", data={"id": "T1"}), "an id"),
    ],
)
def test_what_is_no_event_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(EventMalformed, match=says):
        parse_event(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["type", "id", "created_at", "data", "object"]), json_values),
    st.sampled_from(["video.live_stream.idle", "video.live_stream.simulcast_target.idle", "video.asset.x"]),
)
def test_no_body_breaks_it(parts: dict[str, Any], kind: str) -> None:
    """An event or `EventMalformed`, whatever is in its fields."""
    for table in (parts, {**BASE, "type": kind, **parts}):
        with suppress(EventMalformed):
            parse_event(json.dumps(table).encode())
