"""What an endpoint is told: which events, and the body that is sent, byte for byte. Sans-I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from ingestd.config import WEBHOOK_TYPES, Webhook, chosen
from ingestd.events import Event

#: What of an event's data is told, by the first part of its type: what may be added to an event one day
#: is not sent to others by itself.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "stream": ("session", "pipeline", "cause"),
    "sink": ("session", "name", "attempts", "cause"),
    "recording": ("session", "name", "file", "size"),
}
TEST = "webhook.test"
_LONGEST_TEXT = 2000


@frozen(slots=True)
class Message:
    """An event as it is sent. *id* is the same for all endpoints and all attempts."""

    id: str
    type: str
    stream: str
    at: float
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, event: Event, run: str) -> Message | None:
        """*event* of the *run* of the daemon; None for one that nobody is told of."""
        if event.type not in WEBHOOK_TYPES:
            return None
        known = FIELDS[event.type.partition(".")[0]]
        data = {"stream": event.stream} | {key: _plain(event.data.get(key)) for key in known}
        # The run makes the number one of its own among all of this daemon's lives.
        return cls(f"evt_{run}_{event.number:08}", event.type, event.stream, event.at,
                   _body(event.type, event.at, data))  # fmt: skip

    @classmethod
    def test(cls, identity: str, endpoint: str, at: float) -> Message:
        """One that says nothing, for an operator who looks whether the *endpoint* hears us."""
        return cls(identity, TEST, "", at, _body(TEST, at, {"endpoint": endpoint}))


def wanted(webhook: Webhook, message: Message) -> bool:
    """Whether *webhook* is to be told *message*."""
    return message.type in chosen(webhook.events) and (
        not webhook.streams or message.stream in webhook.streams
    )


def stream_of(body: bytes) -> str:
    """Whose stream a body of ours is about; empty for none."""
    data = json.loads(body)["data"]
    return str(data.get("stream", ""))


def rfc3339(at: float) -> str:
    """Seconds since 1970 as the API writes times."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _body(kind: str, at: float, data: Mapping[str, Any]) -> bytes:
    # ASCII only: no character of a cause or a file name can be one that somebody cannot read.
    return json.dumps({"type": kind, "timestamp": rfc3339(at), "data": data}, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:_LONGEST_TEXT]
