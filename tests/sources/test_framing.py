"""The frame watch and the close frame: pure functions of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.live.publication import Closing
from ingestd.server_frames import close_frame, text_frame
from ingestd.sources.framing import FrameWatch
from tests.sources.receiving import BINARY, CLOSE, PING, PONG, TEXT, frame

payloads = st.one_of(st.binary(max_size=3), st.integers(0, 70_000).map(bytes))
messages = st.lists(st.lists(payloads, min_size=1, max_size=4), max_size=5)
splits = st.lists(st.integers(1, 50_000), max_size=30)


def encode(message: list[bytes], control: bytes) -> bytes:
    """A message in as many frames, with a control frame before each."""
    last = len(message) - 1
    return b"".join(
        control + frame(BINARY if i == 0 else 0, part, fin=i == last) for i, part in enumerate(message)
    )


@given(messages=messages, splits=splits, control=st.sampled_from([b"", frame(PING, b"x"), frame(PONG)]))
def test_whole_messages_are_counted_at_any_split(
    messages: list[list[bytes]], splits: list[int], control: bytes
) -> None:
    """All bytes are clean, and the watch is idle exactly between messages."""
    sent = b"".join(encode(message, control) for message in messages)
    watch, position = FrameWatch(10**6), 0
    for split in [*splits, len(sent) + 1]:
        piece = sent[position : position + split]
        assert watch.feed(piece, now=1.0) == len(piece)
        position += len(piece)
    assert watch.messages == len(messages)
    assert watch.unfinished_since is None
    assert watch.message_bytes == 0
    assert watch.violation is None
    assert not watch.close_seen
    watch.feed(frame(CLOSE), now=2.0)
    assert watch.close_seen


@given(before=st.integers(0, 3), split=st.integers(1, 400))
def test_the_clean_part_ends_where_the_violation_begins(before: int, split: int) -> None:
    """However the bytes are cut, no part of the refused frame but pieces of its header pass."""
    good = frame(BINARY, b"good" * 20) * before
    sent = good + frame(TEXT, b"bad") + frame(BINARY, b"late" * 20)
    watch = FrameWatch(1000)
    passed = b"".join(
        sent[i : i + split][: watch.feed(sent[i : i + split], 0.0)] for i in range(0, len(sent), split)
    )
    assert passed.startswith(good)
    assert len(passed) < len(good) + 6
    assert watch.violation is not None
    assert watch.violation.code == 1003
    watch.feed(frame(CLOSE), 0.0)
    assert watch.close_seen, "the watch goes on behind a violation, to see the peer's close"


def test_the_clock_starts_with_the_first_byte_of_a_message() -> None:
    """Neither more bytes nor pings in between start it again; only the message's end does."""
    watch = FrameWatch(1000)
    watch.feed(frame(BINARY, b"abcdef", fin=False)[:1], now=1.0)
    watch.feed(frame(BINARY, b"abcdef", fin=False)[1:], now=2.0)
    watch.feed(frame(PING), now=3.0)
    assert (watch.unfinished_since, watch.message_bytes) == (1.0, 6)
    watch.feed(frame(0, b"g"), now=4.0)
    assert (watch.unfinished_since, watch.message_bytes) == (None, 0)


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_bytes_are_followed_without_an_error(data: bytes, split: int) -> None:
    """What is no frame at all is wsproto's to refuse: the watch must only survive it."""
    watch = FrameWatch(100)
    for i in range(0, len(data), split):
        assert 0 <= watch.feed(data[i : i + split], 0.0) <= split


def test_a_close_reason_is_cut_at_a_character() -> None:
    """RFC 6455 section 5.5: a control frame carries 125 octets at most."""
    sent = close_frame(4500, "é" * 100)
    assert sent[:4] == b"\x88\x7c" + (4500).to_bytes(2)
    assert sent[4:].decode() == "é" * 61


@given(st.integers(1, 400))
def test_where_text_is_taken_it_has_its_own_limit(split: int) -> None:
    """Fragments are counted together; text does not count as a message of media."""

    def fed(sent: bytes) -> FrameWatch:
        watch = FrameWatch(1000, max_text=100)
        for i in range(0, len(sent), split):
            watch.feed(sent[i : i + split], 0.0)
        return watch

    watch = fed(frame(TEXT, bytes(100)) + frame(BINARY, bytes(1000)) + frame(TEXT, b"x"))
    assert (watch.violation, watch.messages) == (None, 1)
    for sent in (frame(TEXT, bytes(101)), frame(TEXT, bytes(60), fin=False) + frame(0, bytes(41))):
        assert fed(sent).violation == Closing(1009, "text message longer than 100 bytes")
    assert fed(frame(BINARY, bytes(1001))).violation == Closing(1009, "message longer than 1000 bytes")


def test_a_kind_of_message_can_be_refused_for_a_time() -> None:
    """By its opcode, whatever its length; not in the midst of one."""
    watch = FrameWatch(1000, max_text=100)
    watch.refused[BINARY] = Closing(4400, "not yet")
    watch.feed(frame(TEXT, b"x") + frame(PING), 0.0)
    watch.refused.clear()
    watch.feed(frame(BINARY, b"x", fin=False), 0.0)
    watch.refused[BINARY] = Closing(4400, "not any more")
    watch.feed(frame(0, b"x"), 0.0)
    assert watch.violation is None
    watch.feed(frame(BINARY), 0.0)
    assert watch.violation == Closing(4400, "not any more")


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_text_frames(size: int) -> None:
    """RFC 6455 section 5.2: the shortest length that fits, no mask."""
    sent = text_frame("x" * size)
    assert sent == frame(TEXT, b"x" * size, mask=False)
