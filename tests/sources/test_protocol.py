"""The messages of ``ingestd.v1``, without sockets: every field, every bound at its edge, any bytes."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.config import Ingest
from ingestd.live.publication import Accepted, Chunk, Closing, Notice, Resume, Skip, Stats
from ingestd.sources import protocol
from ingestd.sources.protocol import (
    MAX_DEPTH,
    MAX_NOTICE,
    MAX_NUMBER,
    MAX_RECORDER,
    MAX_SECONDS,
    Done,
    Open,
    Recorder,
    Violation,
    parse,
    parse_chunk,
)

RESUME = {"session": "S1", "token": "t"}


def said(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (said("open"), Open()),
        (said("open", key="k", client="c", resume=RESUME), Open("k", "c", Resume("S1", "t"))),
        (said("open", key=None, client=None, resume=None), Open()),
        (said("open", client=""), Open()),
        (said("recorder", number=0), Recorder(0)),
        (said("recorder", number=3, mime="video/webm"), Recorder(3, "video/webm")),
        (said("recorder", number=3, follows=True), Recorder(3, "", follows=True)),
        (said("recorder", number=3, follows=None), Recorder(3)),
        (said("skip", to=7), Skip(7, "")),
        (said("skip", to=7, reason="memory"), Skip(7, "memory")),
        (said("skip", to=7, seconds=20.5), Skip(7, "", 20.5)),
        (said("skip", to=7, seconds=0, later=1), Skip(7, "", 0.0)),
        (said("skip", to=7, seconds=None), Skip(7, "")),
        (said("stats"), Stats()),
        (said("stats", buffered_bytes=1, bitrate=2, dropped_chunks=3), Stats(1, 2, 3)),
        (said("end"), Done()),
        (said("end", later=[{"x": 1.5}]), Done()),
        (said("from the future", to="anything"), None),
        (said(""), None),
        ('{"type":"skip","to":1,"to":2}', Skip(2, "")),
        ('\t{"type":"end"} ', Done()),
        ('{"type":"end","x":' + "9" * 4000 + "}", Done()),
    ],
)
def test_messages(text: str, message: object) -> None:
    """Absent and null are one; what is not known is not looked at."""
    assert parse(text) == message


@pytest.mark.parametrize(
    ("kind", "field", "most", "others"),
    [
        ("open", "key", 128, {}),
        ("open", "client", 64, {}),
        ("recorder", "mime", 128, {"number": 0}),
        ("skip", "reason", 128, {"to": 1}),
        ("open.resume", "session", 64, {"token": "t"}),
        ("open.resume", "token", 128, {"session": "s"}),
    ],
)
def test_texts_are_bounded(kind: str, field: str, most: int, others: dict[str, Any]) -> None:
    """The longest is taken; longer ones, control characters and other types are named, not quoted."""

    def parsed(value: object) -> object:
        fields = {field: value, **others}
        return parse(said("open", resume=fields) if kind == "open.resume" else said(kind, **fields))

    assert parsed("é" * most) is not None
    for bad in ("z" * (most + 1), "z\n", "z\0", "z\x7f", "z\ud800", 1, True, 1.5, [], {}):
        with pytest.raises(Violation) as caught:
            parsed(bad)
        assert caught.value.code == 4400
        assert caught.value.reason == f"{kind}.{field}: expected text of 1 to {most} characters"


@pytest.mark.parametrize(
    ("kind", "field", "most"),
    [
        ("recorder", "number", MAX_RECORDER),
        ("skip", "to", MAX_NUMBER),
        ("stats", "buffered_bytes", MAX_NUMBER),
        ("stats", "bitrate", MAX_NUMBER),
        ("stats", "dropped_chunks", MAX_NUMBER),
    ],
)
def test_numbers_are_bounded(kind: str, field: str, most: int) -> None:
    """The largest is taken; larger ones, fractions, booleans and strings are not."""
    assert parse(said(kind, **{field: most})) is not None
    assert parse(said(kind, **{field: 0})) is not None
    for bad in (most + 1, -1, 10**400, 1.0, 1e300, True, "1", [1], {}):
        with pytest.raises(Violation, match=rf"^{kind}\.{field}: expected an integer from 0 to {most}$"):
            parse(said(kind, **{field: bad}))


def test_the_seconds_of_a_gap_are_bounded() -> None:
    """A day, whole or not; no more, nothing negative, no infinity, and no other type."""
    assert parse(said("skip", to=1, seconds=MAX_SECONDS)) == Skip(1, "", 86_400)
    for bad in ("86400.001", "86401", "-0.001", "1e999", "-1e999", "9" * 400, "true", '"1"', "[1]", "{}"):
        with pytest.raises(Violation, match=r"^skip\.seconds: expected a number from 0 to 86400$"):
            parse(f'{{"type":"skip","to":1,"seconds":{bad}}}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ('{"type":"end"', "not JSON"),
        ('{"type":"end"}{"type":"end"}', "not JSON"),
        ('{"type":"end","x":NaN}', "not JSON"),
        ('{"type":"end","x":-Infinity}', "not JSON"),
        ("[" * 16_000, "not JSON"),
        ('{"a":' * 3000, "not JSON"),
        ('{"type":"end","x":' + "9" * 5000 + "}", "not JSON"),
        ("[]", "not a JSON object"),
        ('"end"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", 'with a "type"'),
        ('{"type":null}', 'with a "type"'),
        ('{"type":["end"]}', 'with a "type"'),
        (said("end", x=nested(MAX_DEPTH)), "nested more than 8 deep"),
        ('{"type":"recorder"}', r"recorder\.number is missing"),
        ('{"type":"recorder","number":1,"follows":1}', r"recorder\.follows: expected true or false"),
        ('{"type":"skip","to":null}', r"skip\.to is missing"),
        ('{"type":"open","resume":"x"}', r"open\.resume: expected an object"),
        ('{"type":"open","resume":{}}', "expected a session and a token"),
        ('{"type":"open","resume":{"session":"x"}}', "expected a session and a token"),
    ],
)
def test_what_is_no_message(text: str, reason: str) -> None:
    with pytest.raises(Violation, match=reason):
        parse(text)


def test_the_deepest_message() -> None:
    assert parse(said("end", x=nested(MAX_DEPTH - 1))) == Done()


words = st.sampled_from(["open", "recorder", "skip", "stats", "end", "key", "resume", "number", "to", "type"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(), inner, max_size=6),
)


@given(st.text() | values.map(json.dumps) | st.dictionaries(words, values).map(json.dumps))
@example('{"type":"open","key":' + "[" * 900 + "]" * 900 + "}")
def test_any_text_is_a_message_or_a_violation(text: str) -> None:
    """No other exception, and a reason that fits a close frame."""
    reason, message = "", None
    try:
        message = parse(text)
    except Violation as violation:
        reason = violation.reason
    assert len(reason.encode()) <= 123
    assert message is None or isinstance(message, Open | Recorder | Skip | Stats | Done)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_chunk_or_a_violation(message: bytes) -> None:
    """Twelve bytes of header, then the chunk, which may be empty."""
    if len(message) < 12:
        with pytest.raises(Violation, match="shorter than the 12 bytes"):
            parse_chunk(message)
    else:
        assert parse_chunk(message) == Chunk(
            message[12:], int.from_bytes(message[:8]), int.from_bytes(message[8:12])
        )


def test_the_header_of_a_chunk() -> None:
    """Big-endian, the number first."""
    sent = b"\0\0\0\0\0\0\1\2" + b"\0\0\0\3" + b"data"
    assert sent[:12] == struct.pack("!QI", 258, 3)
    assert parse_chunk(sent) == Chunk(b"data", 258, 3)


def test_secrets_are_not_shown() -> None:
    assert "sesame" not in repr(parse(said("open", key="sesame", resume={"session": "s", "token": "sesame"})))


# What the server says


def test_hello() -> None:
    accepted = Accepted("S1", 7, resumed=True, window=60.0, token="t", recorder=2, ack="synced")
    assert json.loads(protocol.hello("studio", accepted, Ingest())) == {
        "type": "hello", "stream": "studio", "session": "S1", "token": "t", "next": 7, "recorder": 2,
        "resumed": True, "limits": {
            "max_message": 16 * 2**20, "max_text": 16384, "window": 60.0, "ack": "synced",
            "ping_interval": 10.0, "ping_timeout": 10.0,
        },
    }  # fmt: skip


def test_ack_and_end() -> None:
    """The reason of an end is cut at 300 characters, a close frame's at 123 bytes."""
    assert protocol.ack(5) == '{"type":"ack","next":5}'
    assert json.loads(protocol.end(Closing(4500, "x" * 301))) == {
        "type": "end", "code": 4500, "reason": "x" * 300,
    }  # fmt: skip


def test_a_notice_is_told_as_it_is_with_long_texts_cut() -> None:
    sinks = ({"name": "é" * 301, "state": "running"},)
    told = protocol.notice(Notice("state", {"stream": "live", "since": 1.5, "sinks": sinks, "on": True}))
    assert told.isascii()
    assert json.loads(told) == {
        "type": "state", "stream": "live", "since": 1.5, "on": True,
        "sinks": [{"name": "é" * 300, "state": "running"}],
    }  # fmt: skip


def test_the_longest_notice() -> None:
    """What is longer loses its fields, but not its type."""
    frame = len(protocol.notice(Notice("warning", {"list": []})))
    items = (MAX_NOTICE - frame + 1) // 2
    assert len(protocol.notice(Notice("warning", {"list": [1] * items}))) in (MAX_NOTICE - 1, MAX_NOTICE)
    assert (
        protocol.notice(Notice("warning", {"list": [1] * (items + 1)})) == '{"type":"warning","omitted":true}'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
def test_a_notice_that_cannot_be_json_costs_nobody_a_stream(value: object) -> None:
    assert protocol.notice(Notice("pressure", {"since": value})) == '{"type":"pressure","omitted":true}'


def test_a_notice_may_call_its_fields_as_it_likes() -> None:
    assert protocol.notice(Notice("warning", {"kind": 1, "at": 2})) == '{"type":"warning","kind":1,"at":2}'
