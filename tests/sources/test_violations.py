"""Clients of ``ingestd.v1`` that break a rule: each has its code and reason, and nobody else notices."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingestd.errors import PublishRefused
from ingestd.live.publication import Chunk, Skip
from tests.sources.receiving import (
    ACCEPTED,
    BINARY,
    CLOSE,
    KEY,
    PING,
    TEXT,
    TOKEN,
    Client,
    Door,
    Receiver,
    frame,
    receiver,
)
from tests.sources.speaking import Speaker, chunk, opened, raw, speaker, text

OPEN = text("open", key=KEY)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (chunk(0), 4400, "a chunk before hello"),
        (raw("hello"), 4400, "a text message is not JSON"),
        (text("recorder", number=0), 4400, "the first message is not open"),
        (text("hologram"), 4400, "the first message is not open"),
        (text("open", key=7), 4400, "open.key: expected text of 1 to 128 characters"),
        (text("open", key="wrong"), 4401, "unknown stream key"),
        (text("open", key="k" * 128), 4401, "unknown stream key"),
        (text("open"), 4401, "unknown stream key"),
        (frame(TEXT, bytes(16_385))[:14], 1009, "text message longer than 16384 bytes"),
        (raw(b"\xff\xfe"), 1007, "protocol error: "),
        (frame(0x3, b"x"), 1002, "protocol error: "),
    ],
)
async def test_a_wrong_beginning(sent: bytes, code: int, reason: str) -> None:
    """None of them is admitted; the event says why."""
    with capture_logs() as logs:
        async with receiver() as r:
            client = await speaker(r)
            await client.send(sent)
            told = await client.closing()
            assert told[0] == code
            assert told[1].startswith(reason)
            assert r.door.publications == []
    (refused,) = logs
    assert (refused["event"], refused["code"]) == ("publisher_refused", code)


async def test_two_keys_that_differ() -> None:
    async with receiver() as r:
        client = await speaker(r, f"/{KEY}")
        await client.send(text("open", key="another"))
        assert await client.closing() == (4400, "the path and open have different keys")


async def test_the_first_message_has_its_time() -> None:
    """4408 after handshake_timeout, whatever pings and part of a message come meanwhile."""
    async with receiver(handshake_timeout=0.3) as r:
        client = await speaker(r)
        await client.send(frame(PING, b"?"), OPEN[:-3])
        assert await client.closing() == (4408, "stalled: no open message for 0.3 s")


async def test_those_who_have_not_opened_count_as_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upgraded or not, strangers at a time are bounded; a place becomes free with each that opens or goes."""
    monkeypatch.setattr("ingestd.sources.websocket.MAX_HANDSHAKES", 2)
    async with receiver() as r:
        first, second = await speaker(r), await speaker(r)
        await trio.sleep(0.05)
        third = await r.connect()
        assert await third.status() == 503
        await first.send(OPEN)
        await first.hear()
        second.client.reset()
        await trio.sleep(0.05)
        await opened(r)


@pytest.mark.parametrize("leave", [Client.reset, lambda client: client.stream.socket.close()])
async def test_clients_that_leave_before_they_open(leave: Callable[[Client], None]) -> None:
    """Nobody's error."""
    with capture_logs() as logs:
        async with receiver() as r:
            for sent in (b"", OPEN[:1], OPEN[:-1], frame(CLOSE, (1000).to_bytes(2))):
                client = await speaker(r)
                await client.send(sent)
                leave(client.client)
            await opened(r)
            await trio.sleep(0.05)
    assert {log["event"] for log in logs} <= {"publisher_connected", "publisher_gone", "connection_reset"}
    assert logs[-1]["by"] == "ingestd"


@pytest.mark.parametrize("sent", [chunk(0), text("recorder", number=0), text("hologram"), text("end")])
async def test_nothing_comes_between_open_and_hello(sent: bytes) -> None:
    async with receiver(Door(accepts=None)) as r:
        client = await speaker(r)
        await client.send(OPEN, sent)
        code, reason = await client.closing()
        assert code == 4400
        assert "before hello" in reason or "between open and hello" in reason
        assert await r.door.all_items() == []


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        ([OPEN], 4400, "a second open"),
        ([chunk(4)], 4400, "chunk 4 where 5 was due"),
        ([chunk(6)], 4400, "chunk 6 where 5 was due"),
        ([chunk(2**64 - 1)], 4400, "chunk 18446744073709551615 where 5 was due"),
        ([chunk(5, recorder=3)] * 2, 4400, "chunk 5 where 6 was due"),
        ([chunk(5, recorder=4)], 4400, "a chunk of recorder 4, which is not the one announced last"),
        ([chunk(5, recorder=2)], 4400, "a chunk of recorder 2, which is not the one announced last"),
        ([text("recorder", number=4), chunk(5, recorder=3)], 4400, "a chunk of recorder 3, which is not"),
        ([text("recorder", number=2)], 4400, "recorder 2 after recorder 3"),
        ([text("recorder", number=9), text("recorder", number=8)], 4400, "recorder 8 after recorder 9"),
        ([text("recorder", number=2**32)], 4400, "recorder.number: expected an integer from 0 to 4294967295"),
        ([text("skip", to=5)], 4400, "a skip to 5 where chunk 5 is due"),
        ([text("skip", to=1)], 4400, "a skip to 1 where chunk 5 is due"),
        ([text("skip", to=8), chunk(5)], 4400, "chunk 5 where 8 was due"),
        ([text("skip", to=2**53)], 4400, "skip.to: expected an integer"),
        ([text("stats", bitrate=-1)], 4400, "stats.bitrate: expected an integer"),
        ([frame(BINARY)], 4400, "a binary message is shorter than the 12 bytes"),
        ([frame(BINARY, bytes(11))], 4400, "a binary message is shorter than the 12 bytes"),
        ([raw("{}")], 4400, 'a text message is not a JSON object with a "type"'),
        ([raw("[" * 16_000)], 4400, "a text message is not JSON"),
        ([raw('{"type":"stats","bitrate":NaN}')], 4400, "a text message is not JSON"),
        ([chunk(5, recorder=3), text("end"), chunk(6)], 4400, "a chunk after end"),
        ([text("skip", to=8), text("end"), text("skip", to=9)], 4400, "a message after end"),
        ([chunk(5, recorder=3), text("end"), text("end")], 4400, "a message after end"),
        ([frame(BINARY, bytes(65_537))[:14]], 1009, "message longer than 65536 bytes"),
        ([frame(TEXT, bytes(16_385))[:14]], 1009, "text message longer than 16384 bytes"),
        ([frame(TEXT, b"a" * 9000, fin=False), frame(0, b"a" * 7385)[:8]], 1009, "text message longer than"),
        ([raw(b"\xff")], 1007, "protocol error: "),
        ([frame(TEXT, b"a", fin=False), chunk(5)], 1002, "protocol error: "),
        ([frame(BINARY, b"x", mask=False)], 1002, "protocol error: "),
    ],
)
async def test_violations(sent: list[bytes], code: int, reason: str) -> None:
    """In a session at chunk 5 of recorder 3: what came before is kept; another publisher notices nothing."""
    accepts = evolve(ACCEPTED, next=5, resumed=True, recorder=3)
    async with receiver(Door(accepts=accepts), max_message=65_536) as r:
        healthy = await opened(r, recorder=3)
        channel = r.door.chunks
        client = await opened(r, recorder=3)
        await client.send(*sent)
        (*_, end), closing = await client.hear_all()
        assert (closing.code, end["code"]) == (code, code)
        assert end["reason"].startswith(reason)
        assert all(item in (Chunk(b"x", 5, 3), Skip(8, "")) for item in await r.door.all_items())
        await healthy.send(chunk(5, b"still here", 3))
        assert await channel.receive() == Chunk(b"still here", 5, 3)


async def test_the_longest_messages() -> None:
    """A chunk of max_message with its header, a text of 16 KiB, each in as many frames as it likes."""
    async with receiver(max_message=65_536) as r:
        client = await opened(r)
        await client.send(chunk(0, bytes(65_524)))
        assert len(await r.door.receive()) == 65_524
        longest = b'{"type":"hologram","x":"' + b"x" * (16_384 - 26) + b'"}'
        assert len(longest) == 16_384
        await client.send(raw(longest))
        await client.send(*(frame(0 if i else TEXT, longest[i : i + 1], fin=False) for i in range(16_384)))
        await client.send(frame(0), chunk(1))
        assert await r.door.receive() == b"x"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1001, "the server is stopping"),
        (4403, "no such session, or not with this token"),
        (4404, "the session is over"),
        (4409, "this stream is already live"),
        (4429, "the server has reached its limit of live streams"),
    ],
)
async def test_refusals(code: int, reason: str) -> None:
    """Each is told by ``end`` and the close frame, without a hello."""
    async with receiver(Door(refusal=PublishRefused(code, reason))) as r:
        client = await speaker(r)
        await client.send(text("open", key=KEY, resume={"session": "S1", "token": "guess"}))
        messages, closing = await client.hear_all()
        assert messages == [{"type": "end", "code": code, "reason": reason}]
        assert (closing.code, closing.reason) == (code, reason)
        assert await client.client.end() == "closed"


async def test_a_thousand_wrong_tokens() -> None:
    """All are refused; the publisher who is live loses nothing and waits for nobody."""
    door = Door(capacity=2000)
    wrong = PublishRefused(4403, "no such session, or not with this token")
    async with receiver(door) as r:
        live = await opened(r)
        channel = door.chunks
        door.refusal = wrong
        told: list[tuple[int, str]] = []
        limit, worst = trio.CapacityLimiter(20), 0

        async def guess(number: int) -> None:
            async with limit:
                client = await speaker(r)
                token = {"session": "S1", "token": f"guess-{number}"}
                await client.send(text("open", key=KEY, resume=token))
                told.append(await client.closing())
                client.client.stream.socket.close()

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(guess, number)
            sent = 0
            while len(told) < 1000:
                before = len(told)
                await live.send(chunk(sent))
                assert await channel.receive() == Chunk(b"x", sent, 0)
                worst, sent = max(worst, len(told) - before), sent + 1
                await trio.sleep(0.005)
        assert told == [(wrong.code, wrong.reason)] * 1000
        assert sent > 20
        # Turn by turn, with the twenty that guess at a time: no chunk waits for many of them.
        assert worst < 200


# Secrets


async def refused(r: Receiver) -> None:
    r.door.refusal = PublishRefused(4403, f"a careless reason: {TOKEN} of {KEY}")
    client = await speaker(r)
    await client.send(text("open", key=KEY, resume={"session": "S1", "token": TOKEN}))
    await client.closing()


async def broken(r: Receiver) -> None:
    def bug(key: str) -> None:
        raise KeyError(key, TOKEN)

    r.door.on_admit = bug
    client = await speaker(r)
    await client.send(text("open", key=KEY, resume={"session": "S1", "token": TOKEN}))
    assert await client.closing() == (1011, "internal error")


def talking(*frames: bytes) -> Callable[[Receiver], Any]:
    async def scenario(r: Receiver) -> None:
        client = await opened(r, client=KEY)
        await client.send(*frames)
        await client.hear_all()

    return scenario


@pytest.mark.parametrize(
    "scenario",
    [
        refused,
        broken,
        talking(raw(KEY + TOKEN)),
        talking(text("recorder", number=1, mime=TOKEN), text("stats", bitrate=KEY)),
        talking(text("skip", to=9, reason=TOKEN), chunk(1, KEY.encode())),
        talking(text(TOKEN), frame(PING, TOKEN.encode()), frame(CLOSE, b"\x03\xe8" + KEY.encode())),
        talking(frame(CLOSE, b"\x03\xe8" + TOKEN.encode())),
    ],
)
async def test_no_log_has_a_key_or_a_token(scenario: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Everything at DEBUG, the standard library's loggers included, and what the session is given."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        async with receiver() as r:
            await scenario(r)
            await trio.sleep(0.02)
    assert logs
    shown = repr(logs) + caplog.text + repr(caplog.records) + repr(r.door.publications)
    assert KEY not in shown
    assert TOKEN not in shown


# Anything at all

FRAMES = st.one_of(
    st.builds(chunk, st.integers(0, 4), st.binary(max_size=20), st.integers(0, 2)),
    st.builds(lambda number: text("recorder", number=number), st.integers(0, 3)),
    st.builds(lambda to: text("skip", to=to), st.integers(0, 6)),
    st.builds(lambda data: frame(BINARY, data), st.binary(max_size=20)),
    st.builds(lambda data: frame(TEXT, data), st.binary(max_size=20)),
    st.builds(raw, st.text(max_size=20)),
    st.sampled_from([text("end"), text("open"), text("stats"), text("x"), frame(PING), frame(CLOSE)]),
    st.binary(max_size=20),
)  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(sent=st.lists(FRAMES, max_size=8), hello=st.booleans())
async def test_any_frames_end_with_a_code_and_harm_nobody(sent: list[bytes], hello: bool) -> None:
    """Never 1011; the channel holds chunks with their numbers in order, and skips."""
    with capture_logs() as logs:
        async with receiver() as r:
            client: Speaker = await opened(r) if hello else await speaker(r)
            await client.send(*sent)
            await client.client.stream.send_eof()
            with trio.fail_after(5):
                assert await client.client.end() in ("closed", "reset")
                items = await r.door.all_items() if r.door.channels else []
            following = 0
            for item in items:
                if isinstance(item, Skip):
                    assert item.to > following
                    following = item.to
                else:
                    assert item.number == following
                    following += 1
            await opened(r)
    assert {log["event"] for log in logs} <= {
        "publisher_connected", "publisher_gone", "publisher_refused", "connection_reset",
    }  # fmt: skip
    codes = {log["code"] for log in logs if log["event"] in ("publisher_gone", "publisher_refused")}
    assert codes <= {1000, 1001, 1002, 1005, 1006, 1007, 1009, 4400, 4401} | set(range(3000, 5000))


def test_the_header_is_twelve_bytes() -> None:
    assert struct.calcsize("!QI") == 12
