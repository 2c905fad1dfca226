"""A server's messages, whatever they are: understood, passed over, or refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.client import messages
from ingestd.client.connection import ServerDefect
from ingestd.client.messages import End, Hello, SourceWarning, StreamState
from ingestd.config import Ingest
from ingestd.live.publication import Accepted, Closing, Notice
from ingestd.sources import protocol

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KINDS = ("hello", "ack", "pressure", "state", "warning", "drain", "end", "later")
FIELDS = (
    "stream", "session", "token", "next", "recorder", "resumed", "limits", "active", "behind_seconds",
    "sinks", "since", "code", "text", "reason", "max_message", "window", "ack",
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), VALUES)


@settings(max_examples=500)
@given(kind=st.sampled_from(KINDS), fields=OBJECTS, limits=OBJECTS | VALUES)
def test_nothing_else_is_raised(kind: str, fields: dict[str, Any], limits: Any) -> None:
    """And what is understood is bounded, and fit to be shown."""
    text = json.dumps({**fields, "limits": limits, "type": kind})
    message: messages.ServerMessage | None = None
    with suppress(ServerDefect):
        message = messages.parse(text)
    match message:
        case SourceWarning(_, shown) | End(_, shown):
            assert len(shown) <= 300
            assert shown.isprintable() or "\u2028" in shown or not shown.isascii()
        case StreamState(sinks=sinks):
            assert len(sinks) <= 1000


@given(st.text() | st.binary())
def test_what_is_no_message_is_refused(text: str | bytes) -> None:
    with pytest.raises(ServerDefect):
        messages.parse(text)


def test_what_the_daemon_writes_is_understood() -> None:
    """Each of its messages, as it writes them."""
    accepted = Accepted("S1", 7, resumed=True, window=60.0, token="T1", recorder=3)
    hello = messages.parse(protocol.hello("demo", accepted, Ingest()))
    assert isinstance(hello, Hello)
    assert (hello.session, hello.token, hello.next, hello.recorder, hello.resumed) == ("S1", "T1", 7, 3, True)
    assert hello.limits.max_message == Ingest().max_message
    assert messages.parse(protocol.ack(9)) == messages.Ack(9)
    assert messages.parse(protocol.end(Closing(4415, "byte 7"))) == End(4415, "byte 7")
    told = protocol.notice(Notice("warning", {"code": "no_data", "text": "x" * 70_000}))
    assert messages.parse(told) == SourceWarning("no_data", "x" * 300)


def test_what_is_written_is_understood_by_the_daemon() -> None:
    """Each message of the client's."""
    opened = protocol.parse(messages.open_session("key", "camera 1", messages.Resume("S1", "T1")))
    assert isinstance(opened, protocol.Open)
    assert (opened.key, opened.client) == ("key", "camera 1")
    assert opened.resume is not None
    assert (opened.resume.session, opened.resume.token) == ("S1", "T1")
    assert protocol.parse(messages.open_session(None, "", None)) == protocol.Open()
    for follows in (False, True):
        said = messages.recorder(3, "video/webm", follows=follows)
        assert protocol.parse(said) == protocol.Recorder(3, "video/webm", follows)
    assert protocol.parse(messages.skip(9, "full")) == protocol.Skip(9, "full")
    assert protocol.parse(messages.skip(9, "full", 1.5)) == protocol.Skip(9, "full", 1.5)
    assert protocol.parse(messages.skip(9, "full", 1e9)) == protocol.Skip(9, "full", protocol.MAX_SECONDS)
    assert protocol.parse(messages.stats(1, 2, None)) == protocol.Stats(1, None, 2)
    assert protocol.parse(messages.end()) == protocol.Done()
    assert messages.SUBPROTOCOL == protocol.SUBPROTOCOL
