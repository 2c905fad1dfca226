"""The messages of ``ingestd.v1`` as a client writes and reads them, without I/O; see ``docs/protocol.md``."""

from __future__ import annotations

import json
import re
import struct
from typing import Any, TypeAlias

from attrs import field, frozen

from ingestd.client.connection import MAX_TEXT, ServerDefect

SUBPROTOCOL = "ingestd.v1"
CHUNK_HEADER = struct.Struct("!QI")

_MAX_NUMBER = 2**53 - 1
_MAX_RECORDER = 2**32 - 1
_MAX_SECONDS = 86_400
_MAX_STRING = 300
_MAX_SINKS = 1000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@frozen(slots=True)
class Resume:
    """What lets a publisher go on with *session*; the *token* is a secret."""

    session: str
    token: str = field(repr=False)


@frozen(slots=True, kw_only=True)
class Limits:
    """Within which limits the server takes chunks; sizes in bytes, times in seconds."""

    max_message: int
    window: float
    ack: str


@frozen(slots=True, kw_only=True)
class Hello:
    """The server takes chunks from number *next* on. *recorder*: the greatest number so far, if any."""

    stream: str
    session: str
    token: str | None = field(repr=False)
    next: int
    recorder: int | None
    resumed: bool
    limits: Limits


@frozen(slots=True)
class Ack:
    """All chunks before number *next* are in the journal, or were skipped."""

    next: int


@frozen(slots=True, kw_only=True)
class Pressure:
    """The session is behind, or (*active* is false) no longer: lower the bitrate. None: not told."""

    active: bool
    behind_chunks: int | None = None
    behind_bytes: int | None = None
    behind_seconds: float | None = None


@frozen(slots=True)
class SinkState:
    """One sink of the stream, as ``docs/api.md`` has it."""

    name: str
    type: str
    state: str


@frozen(slots=True, kw_only=True)
class StreamState:
    """How the stream stands on the server: *since* is in seconds since 1970, if that was told."""

    stream: str
    since: float | None = None
    sinks: tuple[SinkState, ...] = ()


@frozen(slots=True)
class SourceWarning:
    """Something is odd about what is sent: *code* is for programs, *text* for people."""

    code: str
    text: str


@frozen(slots=True)
class Drain:
    """The daemon is about to stop: nothing is to be done but to reconnect later."""

    reason: str


@frozen(slots=True)
class End:
    """The server closes the connection, with this *code* and *reason*."""

    code: int
    reason: str


Notice: TypeAlias = Pressure | StreamState | SourceWarning | Drain
ServerMessage: TypeAlias = Hello | Ack | Notice | End


def open_session(key: str | None, client: str, resume: Resume | None) -> str:
    """The first message."""
    fields: dict[str, object] = {"key": key, "client": client}
    if resume is not None:
        fields["resume"] = {"session": resume.session, "token": resume.token}
    return _encode("open", **{name: value for name, value in fields.items() if value})


def recorder(number: int, mime: str, *, follows: bool) -> str:
    """All chunks from here on are of recorder *number*; *follows*: it began where the one before ended."""
    fields = {"number": number, "mime": mime, "follows": follows}
    return _encode("recorder", **{name: value for name, value in fields.items() if value or name == "number"})


def skip(to: int, reason: str, seconds: float | None = None) -> str:
    """The chunks before number *to* will never come; they were given within *seconds*, if that is known."""
    known = {} if seconds is None else {"seconds": round(min(seconds, _MAX_SECONDS), 3)}
    return _encode("skip", to=to, reason=reason, **known)


def stats(buffered_bytes: int, dropped_chunks: int, bitrate: int | None) -> str:
    """How the client is doing."""
    return _encode("stats", buffered_bytes=buffered_bytes, dropped_chunks=dropped_chunks, bitrate=bitrate)


def end() -> str:
    """All is sent."""
    return _encode("end")


def parse(text: str | bytes) -> ServerMessage | None:
    """A server's message; None for a type that is not known here.

    Of a notice, a field of another type than it should have counts as missing. Raises `ServerDefect`
    for what is no message, and for a hello, ack or end that cannot be understood.
    """
    if not isinstance(text, str):
        raise ServerDefect("a binary message")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT:
        raise ServerDefect(f"a text message of more than {MAX_TEXT} bytes")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ServerDefect("a text message that is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ServerDefect('a text message that is no JSON object with a "type"')
    fields = _Fields(value["type"], value)
    match value["type"]:
        case "hello":
            return _hello(fields)
        case "ack":
            return Ack(fields.integer("next"))
        case "pressure":
            return _pressure(fields)
        case "state":
            return _state(fields)
        case "warning":
            return SourceWarning(fields.words("code"), fields.words("text"))
        case "drain":
            return Drain(fields.words("reason"))
        case "end":
            return End(fields.integer("code", 4999), fields.words("reason"))
    return None


def clean(text: str) -> str:
    """*text* of a server as it may be shown on a terminal: short, without control characters."""
    return _CONTROL.sub("�", text[:_MAX_STRING])


def _hello(fields: _Fields) -> Hello:
    limits = fields.value("limits")
    if not isinstance(limits, dict):
        raise ServerDefect("hello.limits is no object")
    inner = _Fields("hello.limits", limits)
    resumed = fields.value("resumed")
    if not isinstance(resumed, bool):
        raise ServerDefect("hello.resumed is no boolean")
    return Hello(
        stream=fields.text("stream", 64),
        session=fields.text("session", 64),
        token=None if fields.value("token") is None else fields.text("token", 128),
        next=fields.integer("next"),
        recorder=None if fields.value("recorder") is None else fields.integer("recorder", _MAX_RECORDER),
        resumed=resumed,
        limits=Limits(
            max_message=inner.integer("max_message", least=CHUNK_HEADER.size + 1),
            window=inner.number("window"),
            ack=inner.words("ack"),
        ),
    )


def _pressure(fields: _Fields) -> Pressure:
    active = fields.value("active")
    return Pressure(
        active=active if isinstance(active, bool) else True,
        behind_chunks=fields.maybe("behind_chunks", int),
        behind_bytes=fields.maybe("behind_bytes", int),
        behind_seconds=fields.maybe("behind_seconds", int | float),
    )


def _state(fields: _Fields) -> StreamState:
    listed = fields.value("sinks")
    rows = listed[:_MAX_SINKS] if isinstance(listed, list) else []
    sinks = [_Fields("sinks", row) for row in rows if isinstance(row, dict)]
    return StreamState(
        stream=fields.words("stream"),
        since=fields.maybe("since", int | float),
        sinks=tuple(SinkState(*map(sink.words, ("name", "type", "state"))) for sink in sinks),
    )


def _encode(kind: str, /, **fields: object) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))


def _refuse_constant(_name: str) -> None:
    raise ValueError  # NaN, Infinity: Python's, not JSON's


@frozen
class _Fields:
    """The fields of one object; *path* says where they are, for the errors."""

    path: str
    values: dict[str, Any]

    def value(self, name: str) -> Any:
        return self.values.get(name)

    def text(self, name: str, most: int) -> str:
        """A string of 1 to *most* characters, required."""
        value = self.value(name)
        if not isinstance(value, str) or not 1 <= len(value) <= most or _CONTROL.search(value):
            raise ServerDefect(f"{self.path}.{name} is no text of 1 to {most} characters")
        return value

    def words(self, name: str) -> str:
        """A string to be shown; empty if there is none."""
        value = self.value(name)
        return clean(value) if isinstance(value, str) else ""

    def integer(self, name: str, most: int = _MAX_NUMBER, least: int = 0) -> int:
        """An integer, required."""
        value = self.value(name)
        if type(value) is not int or not least <= value <= most:
            raise ServerDefect(f"{self.path}.{name} is no integer from {least} to {most}")
        return value

    def number(self, name: str) -> float:
        """A number that is not negative, required."""
        value = self.maybe(name, int | float)
        if value is None:
            raise ServerDefect(f"{self.path}.{name} is no number")
        return float(value)

    def maybe(self, name: str, kind: Any) -> Any:
        """A number of *kind* that is not negative; None if there is none."""
        value = self.value(name)
        fine = isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER
        return value if fine else None
