"""The subprotocol ``ingestd.v1``: its messages, without I/O. ``docs/protocol.md`` specifies it."""

from __future__ import annotations

import json
import re
import struct
from typing import Any, TypeAlias

from attrs import field, frozen

from ingestd.config import Ingest
from ingestd.errors import PublishRefused
from ingestd.live.publication import Accepted, Chunk, Closing, Notice, Resume, Skip, Stats

SUBPROTOCOL = "ingestd.v1"
VIOLATION = 4400
MAX_TEXT = 16 * 2**10
"""Bytes of a client's text message."""
MAX_NOTICE = 64 * 2**10
"""Bytes of a server's text message."""
MAX_DEPTH = 8
"""Objects and arrays within each other, in a client's message."""
MAX_NUMBER = 2**53 - 1
"""The largest integer that every JSON reader keeps; of chunks, bytes and bits."""
MAX_RECORDER = 2**32 - 1
MAX_SECONDS = 86_400
"""Of a gap: no session waits that long."""

_CHUNK_HEADER = struct.Struct("!QI")
_MAX_STRING = 300
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Violation(PublishRefused):
    """The client broke the protocol: close with 4400. The text never repeats what it sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(VIOLATION, reason)


@frozen(slots=True)
class Open:
    """The client's first message: who it is, and what it wants to go on with."""

    key: str | None = field(default=None, repr=False)
    client: str = ""
    resume: Resume | None = None


@frozen(slots=True)
class Recorder:
    """All chunks from here on are of recorder *number*; *follows*: nothing is missing before its first."""

    number: int
    mime: str = ""
    follows: bool = False


@frozen(slots=True)
class Done:
    """The client has sent all that it will ever send."""


ClientMessage: TypeAlias = Open | Recorder | Skip | Stats | Done


def parse(text: str) -> ClientMessage | None:
    """A client's text message; None for a type that this version does not know.

    Raises `Violation` for what is no JSON object with a ``type``, or has a field of a wrong type or size.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Violation("a text message is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Violation('a text message is not a JSON object with a "type"')
    if _deeper_than(MAX_DEPTH, value):
        raise Violation(f"a text message is nested more than {MAX_DEPTH} deep")
    fields = _Fields(value["type"], value)
    match value["type"]:
        case "open":
            return Open(fields.maybe_text("key", 128), fields.text("client", 64), _resume(fields))
        case "recorder":
            number, mime = fields.number("number", MAX_RECORDER), fields.text("mime", 128)
            return Recorder(number, mime, fields.flag("follows"))
        case "skip":
            seconds = fields.maybe_fraction("seconds", MAX_SECONDS)
            return Skip(fields.number("to"), fields.text("reason", 128), seconds)
        case "stats":
            return Stats(*map(fields.maybe_number, ("buffered_bytes", "bitrate", "dropped_chunks")))
        case "end":
            return Done()
    return None


def parse_chunk(message: bytes) -> Chunk:
    """A client's binary message. Raises `Violation` for one without its header."""
    if len(message) < _CHUNK_HEADER.size:
        raise Violation(f"a binary message is shorter than the {_CHUNK_HEADER.size} bytes of its header")
    number, recorder = _CHUNK_HEADER.unpack_from(message)
    return Chunk(message[_CHUNK_HEADER.size :], number, recorder)


def hello(stream: str, accepted: Accepted, config: Ingest) -> str:
    """What lets the client begin: where, and within which limits."""
    return _encode(
        "hello",
        stream=stream,
        session=accepted.session,
        token=accepted.token,
        next=accepted.next,
        recorder=accepted.recorder,
        resumed=accepted.resumed,
        limits={
            "max_message": config.max_message,
            "max_text": MAX_TEXT,
            "window": accepted.window,
            "ack": accepted.ack,
            "ping_interval": config.ping_interval,
            "ping_timeout": config.ping_timeout,
        },
    )


def ack(following: int) -> str:
    """All chunks before number *following* are in the journal."""
    return _encode("ack", next=following)


def end(closing: Closing) -> str:
    """What a close frame says, with the whole reason."""
    return _encode("end", code=closing.code, reason=closing.reason[:_MAX_STRING])


def notice(told: Notice) -> str:
    """A notice as it is, with long strings cut; one that is still too long, without its fields.

    So is one that cannot be JSON: a defect of who told it, which must not cost the publisher its stream.
    """
    try:
        text = _encode(told.kind, **_cut(told.fields))
    except (TypeError, ValueError):
        text = ""
    return text if 0 < len(text) <= MAX_NOTICE else _encode(told.kind, omitted=True)


def _encode(kind: str, /, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, allow_nan=False, separators=(",", ":"))


def _cut(value: Any) -> Any:
    match value:
        case str():
            return value[:_MAX_STRING]
        case dict():
            return {key: _cut(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_cut(inner) for inner in value]
    return value


def _refuse_constant(_name: str) -> None:
    raise ValueError  # NaN, Infinity: Python's, not JSON's


def _deeper_than(depth: int, value: object) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_deeper_than(depth - 1, each) for each in inner)


def _resume(fields: _Fields) -> Resume | None:
    value = fields.values.get("resume")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Violation("open.resume: expected an object")
    inner = _Fields("open.resume", value)
    session, token = inner.maybe_text("session", 64), inner.maybe_text("token", 128)
    if session is None or token is None:
        raise Violation("open.resume: expected a session and a token")
    return Resume(session, token)


@frozen
class _Fields:
    """The fields of one object, read one by one; *path* is where they are, for the errors."""

    path: str
    values: dict[str, Any]

    def maybe_text(self, name: str, most: int) -> str | None:
        """A string of 1 to *most* characters, without control characters; None if absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 1 <= len(value) <= most or _CONTROL.search(value):
            raise Violation(f"{self.path}.{name}: expected text of 1 to {most} characters")
        return value

    def text(self, name: str, most: int) -> str:
        """The same; empty if absent, null or empty."""
        return "" if self.values.get(name) == "" else self.maybe_text(name, most) or ""

    def flag(self, name: str) -> bool:
        """True or false; false if absent or null."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise Violation(f"{self.path}.{name}: expected true or false")
        return bool(value)

    def maybe_number(self, name: str, most: int = MAX_NUMBER) -> int | None:
        """An integer from 0 to *most*; None if absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= most:
            raise Violation(f"{self.path}.{name}: expected an integer from 0 to {most}")
        return value

    def maybe_fraction(self, name: str, most: int) -> float | None:
        """A number from 0 to *most*, whole or not; None if absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value <= most:
            raise Violation(f"{self.path}.{name}: expected a number from 0 to {most}")
        return float(value)

    def number(self, name: str, most: int = MAX_NUMBER) -> int:
        """An integer from 0 to *most*; required."""
        value = self.maybe_number(name, most)
        if value is None:
            raise Violation(f"{self.path}.{name} is missing")
        return value
