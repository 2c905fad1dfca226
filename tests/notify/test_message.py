"""What endpoints are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingestd.config import WEBHOOK_TYPES
from ingestd.events import Event
from ingestd.notify.message import Message, stream_of, wanted
from tests.notify.tools import webhook

DATA = {
    "session": "s1", "pipeline": "hls", "cause": None, "name": "hls", "attempts": 2, "file": "a.mkv",
    "size": 7, "key": "never-tell",
}  # fmt: skip


def told(kind: str, **data: object) -> dict[str, object]:
    message = Message.of(Event(12, 1_700_000_000.25, kind, "cam", {**DATA, **data}), "r1")
    assert message is not None
    result: dict[str, object] = json.loads(message.body)
    return result


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("stream.live", {"session": "s1", "pipeline": "hls", "cause": None}),
        ("sink.failed", {"session": "s1", "name": "hls", "attempts": 2, "cause": None}),
        ("recording.ready", {"session": "s1", "name": "hls", "file": "a.mkv", "size": 7}),
    ],
)
def test_bodies(kind: str, data: dict[str, object]) -> None:
    """Type, time and data; of the data only what is documented."""
    assert told(kind) == {
        "type": kind, "timestamp": "2023-11-14T22:13:20.250Z", "data": {"stream": "cam", **data},
    }  # fmt: skip


def test_a_body_is_bounded_ascii() -> None:
    """Whatever FFmpeg says, and whatever a file is called."""
    body = told("sink.failed", cause="\ud800é" * 5000, attempts={1})
    data = body["data"]
    assert isinstance(data, dict)
    assert data["cause"] == "\ud800é" * 1000
    assert data["attempts"] == "{1}"


def test_the_id_is_the_event_s() -> None:
    """The same for all endpoints; another in each life of the daemon, and in the order of the events."""
    ids = [
        message.id
        for run in ("a", "b")
        for number in (9, 10)
        if (message := Message.of(Event(number, 1.0, "stream.live", "cam", {}), run)) is not None
    ]
    assert len(set(ids)) == 4
    assert ids == sorted(ids)


@pytest.mark.parametrize("kind", ["stream.connecting", "sink.running", "encoder.failed", "recording.removed"])
def test_what_nobody_is_told_of(kind: str) -> None:
    assert Message.of(Event(1, 1.0, kind, "cam", {}), "r") is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set(WEBHOOK_TYPES)),
        ({"events": ("sink",)}, {"sink.failed", "sink.recovered"}),
        ({"events": ("stream.live", "recording")}, {"stream.live", "recording.ready"}),
        ({"streams": ("cam",)}, set(WEBHOOK_TYPES)),
        ({"streams": ("other",)}, set()),
    ],
)
def test_who_wants_what(tmp_path: Path, options: dict[str, tuple[str, ...]], expected: set[str]) -> None:
    """By types, by the first part of types, and by streams."""
    endpoint = webhook(tmp_path, **options)
    messages = [Message.of(Event(1, 1.0, kind, "cam", {}), "r") for kind in WEBHOOK_TYPES]
    assert {each.type for each in messages if each is not None and wanted(endpoint, each)} == expected


def test_whose_stream_a_body_is_about() -> None:
    assert stream_of(b'{"data":{"stream":"cam"}}') == "cam"
    assert stream_of(Message.test("evt_test_1", "app", 0.0).body) == ""
