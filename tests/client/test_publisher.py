"""The publisher against a server that closes, lies and goes silent: what it does next, and what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio_websocket import ConnectionClosed

from ingestd.client import (
    Buffer,
    ConnectionFailed,
    Drain,
    Dropped,
    End,
    Event,
    Hello,
    Lost,
    NewRecorder,
    Pressure,
    Published,
    Publisher,
    SinkState,
    SourceWarning,
    StreamState,
    conversation,
    publisher,
)
from ingestd.client.endings import Backoff, Then, after_code
from tests.client.ledger import Ledger, access_points
from tests.client.server import Peer, Talk, fake
from tests.support.captures import capture

KEY = "Sk_secret"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test need not wait as a person would."""
    monkeypatch.setattr(publisher, "_PAUSES", {})


@pytest.fixture
def chunks() -> list[bytes]:
    return capture("cv-vp8-250.webm").chunks()


async def source(*items: bytes | NewRecorder, stay: bool = False) -> AsyncGenerator[Any, None]:
    """These; then the end, or silence."""
    for item in items:
        yield item
        await trio.lowlevel.checkpoint()
    if stay:
        await trio.sleep_forever()


async def publish(url: str, *items: bytes | NewRecorder, stay: bool = False, **options: Any) -> Published:
    with trio.fail_after(20):
        return await Publisher(url, KEY, **options).run(source(*items, stay=stay))


async def to_the_end(ledger: Ledger, peer: Peer, **hello: object) -> None:
    """As a daemon does when all goes well."""
    await peer.welcome(ledger, **hello)
    await peer.take(ledger)
    await peer.say("end", code=1000, reason="done")
    await peer.close(1000, "done")


def ending(ledger: Ledger, **hello: object) -> Talk:
    async def talk(peer: Peer) -> None:
        await to_the_end(ledger, peer, **hello)

    return talk


def cutting(ledger: Ledger, code: int | None, after: int = 2, reason: str = "because") -> Talk:
    """Takes so many chunks, and closes with *code*; None: without a close frame."""

    async def talk(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, after)
        if code is None:
            peer.socket._stream.socket.close()  # type: ignore[attr-defined]
        else:
            await peer.close(code, reason)

    return talk


async def test_connections_are_made_as_they_are_told_to(chunks: list[bytes]) -> None:
    """Of a way that is gone for a while the publisher hears an OSError, and tries again."""
    ledger, asked = Ledger(), 0

    async def some_way(host: str, port: int) -> trio.SocketStream:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError("the network is away")
        return await trio.open_tcp_stream(host, port)

    async with fake(cutting(ledger, None), ending(ledger)) as server:
        done = await publish(server.url, *chunks, open_tcp=some_way)
    assert (asked, done.complete, done.reconnects) == (3, True, 1)


async def test_all_is_acknowledged(chunks: list[bytes]) -> None:
    """The key is in the first message, not in the URL; the result has the counts."""
    ledger = Ledger()
    async with fake(ending(ledger)) as server:
        done = await publish(server.url, *chunks, client="camera 1")
    assert done == Published(
        complete=True, code=1000, reason="done", gave_up=False, chunks=len(chunks),
        bytes=sum(map(len, chunks)), missing_chunks=0, missing_bytes=0, gaps=0, reconnects=0, sessions=1,
        session="S1",
    )  # fmt: skip
    assert server.openings == [{"type": "open", "key": KEY, "client": "camera 1"}]
    assert server.peers[0].path == "/stream/live"
    assert ledger.taken == chunks


@pytest.mark.parametrize("code", [None, 1001, 1011, 1012, 3999, 4408, 4410])
async def test_codes_to_resume_after(chunks: list[bytes], code: int | None) -> None:
    """With session and token, from the server's number on: none twice, none missing."""
    ledger, heard = Ledger(), list[Event]()
    async with fake(cutting(ledger, code), cutting(ledger, code), ending(ledger)) as server:
        done = await publish(server.url, *chunks, on_event=heard.append)
    resume = {"session": "S1", "token": "T1"}
    assert [opening.get("resume") for opening in server.openings] == [None, resume, resume]
    assert (done.complete, done.reconnects, done.sessions, done.gaps) == (True, 2, 1, 0)
    assert ledger.taken == chunks
    lost = [event for event in heard if isinstance(event, Lost)]
    assert [event.code for event in lost] == [code or 1006] * 2
    assert all(event.reason == ("because" if code else "the connection broke") for event in lost)


@pytest.mark.parametrize("code", [1000, 1002, 1007, 1009, 4400, 4401, 4412, 4415, 4999])
async def test_codes_to_stop_after(chunks: list[bytes], code: int) -> None:
    """What is missing is in the result, and the connection is not made again."""
    ledger = Ledger()
    async with fake(cutting(ledger, code)) as server:
        done = await publish(server.url, *chunks, stay=True)
        await trio.sleep(0.3)
        assert len(server.peers) == 1
    assert (done.complete, done.gave_up) == (False, False)
    assert (done.code, done.reason) == (code, "because")
    assert done.chunks == 2
    assert done.bytes == sum(map(len, chunks[:2]))


@pytest.mark.parametrize("code", [4403, 4404, 4500])
async def test_codes_to_begin_anew_after(chunks: list[bytes], code: int) -> None:
    """Without the token; what is kept goes on in another session from a keyframe, with the headers first."""
    first, second = Ledger(), Ledger()

    async def refuse(peer: Peer) -> None:
        await peer.close(code, "over")

    async with fake(cutting(first, 1006 - 5, 3), refuse, ending(second, session="S2")) as server:
        done = await publish(server.url, *chunks)
    assert [bool(opening.get("resume")) for opening in server.openings] == [False, True, False]
    assert (done.sessions, done.session, done.reconnects) == (2, "S2", 1)
    assert (done.complete, done.code) == (False, 1000)
    assert second.gaps == []
    assert done.chunks + done.missing_chunks == len(chunks) + 1  # the headers went twice
    assert done.missing_bytes > 0
    assert done.gaps == 1
    assert first.files[0][:100] == second.files[0][:100]


@pytest.mark.parametrize("code", [1013, 4409, 4429])
async def test_codes_to_try_again_later(chunks: list[bytes], code: int) -> None:
    """Once there was a session; a first attempt fails at once."""
    ledger = Ledger()

    async def refuse(peer: Peer) -> None:
        await peer.close(code, "not now")

    async with fake(cutting(ledger, 1001), refuse, refuse, ending(ledger)) as server:
        done = await publish(server.url, *chunks)
        assert len(server.peers) == 4
    assert done.complete
    async with fake(refuse) as server:
        done = await publish(server.url, *chunks)
        assert len(server.peers) == 1
    assert (done.code, done.reason, done.chunks, done.session) == (code, "not now", 0, None)


@pytest.mark.parametrize("code", [4401, 4403, 4404])
async def test_a_first_attempt_that_is_refused(chunks: list[bytes], code: int) -> None:
    """Without a session there is nothing that could be begun anew."""

    async def refuse(peer: Peer) -> None:
        await peer.say("end", code=code, reason="no " * 100 + "\x1b[31m")
        await peer.close(code, "no")

    async with fake(refuse) as server:
        done = await publish(server.url, *chunks)
        assert len(server.peers) == 1
    assert done.code == code
    assert done.reason.startswith("no " * 90)
    assert "\x1b" not in done.reason


async def test_the_seat_that_a_lost_hello_has_taken(chunks: list[bytes]) -> None:
    """The first connection broke before hello: 4409 may be our own ghost, so it is tried again."""
    ledger = Ledger()

    async def vanish(peer: Peer) -> None:
        peer.socket._stream.socket.close()  # type: ignore[attr-defined]

    async def refuse(peer: Peer) -> None:
        await peer.close(4409, "this stream is already live")

    async with fake(vanish, refuse, ending(ledger)) as server:
        done = await publish(server.url, *chunks)
    assert done.complete
    assert done.reconnects == 0


async def test_what_is_sent_after_the_end_was_lost(chunks: list[bytes]) -> None:
    """`end` was said and the connection broke: 4404 says that all arrived, a hello what did not."""
    for had in (True, False):
        ledger = Ledger()

        async def break_at_the_end(peer: Peer, ledger: Ledger = ledger) -> None:
            await peer.welcome(ledger)
            await peer.take(ledger, ack=False)
            peer.socket._stream.socket.close()  # type: ignore[attr-defined]

        async def over(peer: Peer) -> None:
            await peer.close(4404, "the session is over")

        async def again(peer: Peer, ledger: Ledger = ledger) -> None:
            ledger.ended = False
            await to_the_end(ledger, peer)

        async with fake(break_at_the_end, over if had else again) as server:
            done = await publish(server.url, *chunks)
            assert len(server.peers) == 2
        assert done.complete
        assert done.chunks == len(chunks)
        assert ledger.taken == chunks


async def test_a_session_that_ended_before_all_was_said(chunks: list[bytes]) -> None:
    """4404 long after the loss is no proof that the rest arrived: it goes into another session."""
    first, second = Ledger(), Ledger()

    async def break_before_the_end(peer: Peer) -> None:
        await peer.welcome(first)
        await peer.take(first, 3, ack=False)
        peer.socket._stream.socket.close()  # type: ignore[attr-defined]

    async def over(peer: Peer) -> None:
        await peer.close(4404, "the session is over")

    async with fake(break_before_the_end, over, ending(second, session="S2")) as server:
        done = await publish(server.url, *chunks)
    assert done.complete
    assert second.taken == chunks  # nothing was acknowledged, so all of it was there


MALFORMED = {
    "not json": "nonsense",
    "no object": "[]",
    "no type": "{}",
    "another type of type": '{"type":1}',
    "nan": '{"type":"ack","next":NaN}',
    "too deep": '{"type":' * 30_000,
    "a huge number": '{"type":"ack","next":' + "9" * 5000 + "}",
    "binary": b"\0",
    "ack of a float": '{"type":"ack","next":1.0}',
    "ack of a boolean": '{"type":"ack","next":true}',
    "ack of nothing": '{"type":"ack"}',
    "ack from the future": '{"type":"ack","next":99}',
    "ack that goes back": '{"type":"ack","next":0}',
    "a second hello": '{"type":"hello","stream":"demo","session":"S1","token":null,"next":0,"recorder":null,'
    '"resumed":false,"limits":{"max_message":99,"window":1,"ack":"written"}}',
    "end without a code": '{"type":"end","code":"1000"}',
    "too long": '{"type":"later","text":"' + "x" * 65536 + '"}',
    "too long in bytes": '{"type":"later","text":"' + "ä" * 40_000 + '"}',
}  # fmt: skip


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_server_that_breaks_the_protocol(chunks: list[bytes], message: str | bytes) -> None:
    """It is given up at once, and what it sent is not repeated."""
    ledger = Ledger()

    async def talk(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 2)
        await peer.raw(message)

    async with fake(talk) as server:
        done = await publish(server.url, *chunks[:2], stay=True)
        assert len(server.peers) == 1
    assert done.code == 1002
    assert done.reason.startswith("the server broke the protocol: ")
    assert len(done.reason) < 150
    assert done.chunks == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"next": -1}, {"next": 2**53}, {"next": None}, {"session": ""}, {"session": "x" * 65}, {"session": 7},
        {"session": "a\nb"}, {"token": ""}, {"token": 5}, {"token": "t" * 129}, {"recorder": 2**32},
        {"recorder": "0"}, {"resumed": None}, {"limits": None}, {"limits": {}}, {"stream": None},
        {"limits": {"max_message": 12, "window": 60, "ack": "written"}},
        {"limits": {"max_message": 4096, "window": -1, "ack": "written"}},
        {"limits": {"max_message": 4096, "window": "60", "ack": "written"}},
    ],
    ids=str,
)  # fmt: skip
async def test_a_hello_that_cannot_be_understood(chunks: list[bytes], wrong: dict[str, object]) -> None:
    async def talk(peer: Peer) -> None:
        await peer.hello(**wrong)

    async with fake(talk) as server:
        done = await publish(server.url, *chunks)
    assert (done.code, done.chunks) == (1002, 0)
    assert "hello." in done.reason


async def test_an_ack_before_hello(chunks: list[bytes]) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say("ack", next=0)

    async with fake(talk) as server:
        assert (await publish(server.url, *chunks)).code == 1002


async def test_what_the_server_tells_arrives_as_events(chunks: list[bytes]) -> None:
    """Of another version, or of a wrong type, fields are left out, and messages passed over."""
    ledger, heard = Ledger(), list[Event]()

    async def talk(peer: Peer) -> None:
        await peer.welcome(ledger, later="field")
        await peer.say("confetti", amount=3)
        await peer.say("pressure", active=True, behind_chunks=3, behind_bytes=None, behind_seconds=1.5)
        await peer.say("pressure", active=False, behind_chunks="many", behind_bytes=-1, behind_seconds=-2.5)
        await peer.say("pressure", omitted=True)
        await peer.say("pressure", active=False)
        sinks: list[object] = [{"name": "hls", "type": "hls", "state": "running"}, 7, {"name": 5}]
        await peer.say("state", stream="live", since=1795262.5, sinks=sinks)
        await peer.say("state", sinks="none", since=True)
        await peer.say("warning", code="no_keyframe", text="no keyframe for 20 s\x07", seconds=20)
        await peer.say("warning", code=None)
        await peer.say("drain", reason="deploy")
        await peer.take(ledger)
        await peer.say("end", code=1000, reason="done")
        await peer.close(1000)

    async with fake(talk) as server:
        assert (await publish(server.url, *chunks, on_event=heard.append)).complete
    hello = heard.pop(0)
    assert isinstance(hello, Hello)
    assert (hello.stream, hello.limits.window) == ("demo", 60.0)
    assert "T1" not in repr(hello)
    assert heard == [
        Pressure(active=True, behind_chunks=3, behind_seconds=1.5),
        Pressure(active=False),
        Pressure(active=True),
        Pressure(active=False),
        StreamState(
            stream="live", since=1795262.5, sinks=(SinkState("hls", "hls", "running"), SinkState("", "", ""))
        ),
        StreamState(stream=""),
        SourceWarning("no_keyframe", "no keyframe for 20 s�"),
        SourceWarning("", ""),
        Drain("deploy"),
        End(1000, "done"),
    ]


async def test_a_silent_connection_is_given_up(chunks: list[bytes]) -> None:
    """Nothing comes, not even a pong: within the ping timeout and a half it is made anew."""
    ledger = Ledger()

    async def deaf(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 2)
        await peer.socket._stream_lock.acquire()  # what it would send waits for ever

    heard: list[tuple[float, Event]] = []
    async with fake(deaf, ending(ledger)) as server:
        done = await publish(
            server.url, *chunks, ping_interval=0.2, ping_timeout=0.4,
            on_event=lambda event: heard.append((trio.current_time(), event)),
        )  # fmt: skip
    assert done.complete
    assert ledger.taken == chunks
    (lost,) = [(at, event) for at, event in heard if isinstance(event, Lost)]
    assert lost[1].reason == "nothing was heard for 0.4 s"
    assert lost[0] - heard[0][0] < 0.2 + 0.6 + 0.5


async def test_who_is_told_of_pressure_is_patient(chunks: list[bytes]) -> None:
    """A server that holds the publisher back answers no ping either."""
    ledger = Ledger()

    async def busy(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 2)
        await peer.say("pressure", active=True)
        await peer.socket._stream_lock.acquire()
        await trio.sleep(1.0)
        peer.socket._stream_lock.release()
        await peer.take(ledger)
        await peer.close(1000)

    async with fake(busy) as server:
        done = await publish(server.url, *chunks, ping_interval=0.1, ping_timeout=0.3)
        assert len(server.peers) == 1
    assert done.complete


async def test_it_gives_up(chunks: list[bytes]) -> None:
    """When no connection works for so long; with 0 at the first loss."""
    ledger = Ledger()
    for patience in (0.0, 0.7):
        ledger = Ledger()
        async with fake(cutting(ledger, 1011), cutting(ledger, 1011, 0)) as server:
            begin = trio.current_time()
            done = await publish(server.url, *chunks, stay=True, give_up_after=patience)
            took = trio.current_time() - begin
            assert (len(server.peers) == 1) is (patience == 0)
        assert (done.gave_up, done.complete, done.code, done.chunks) == (True, False, 1011, 2)
        assert done.missing_chunks == len(chunks) - 2
        assert took < patience + 0.5


async def test_a_hello_that_never_comes_is_not_waited_for_for_ever(chunks: list[bytes]) -> None:
    ledger = Ledger()

    async def mute(peer: Peer) -> None:
        await trio.sleep_forever()

    async with fake(cutting(ledger, 1011), mute) as server:
        done = await publish(server.url, *chunks, give_up_after=0.5)
    assert done.gave_up


async def test_a_connection_that_works_makes_it_patient_again(chunks: list[bytes]) -> None:
    """Each loss has the whole patience."""
    ledger = Ledger()

    async def slowly(peer: Peer) -> None:
        await trio.sleep(0.4)
        await cutting(ledger, 1011, 1)(peer)

    async with fake(*[slowly] * 5, ending(ledger)) as server:
        done = await publish(server.url, *chunks, give_up_after=0.8)
    assert done.complete
    assert done.reconnects == 5


async def test_nothing_listens() -> None:
    """A first connection that cannot be made is an error; a later one is tried again."""
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        await publish("ws://127.0.0.1:1/stream/live")
    with pytest.raises(ValueError, match="expected a URL"):
        await publish("http://127.0.0.1:1/stream/live")
    ledger, heard, lost = Ledger(), list[Event](), trio.Event()

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Lost):
            lost.set()

    async with trio.open_nursery() as nursery, fake(cutting(ledger, 1001)) as server:
        running = Publisher(server.url, KEY, on_event=hear, give_up_after=0.6)
        results: list[Published] = []

        async def run() -> None:
            results.append(await running.run(source(b"\x1a\x45\xdf\xa3", b"x", b"y")))

        nursery.start_soon(run)
        await lost.wait()
    assert isinstance(heard[-1], Lost)
    assert results[0].gave_up
    assert results[0].reason == "Connection refused"


async def test_a_server_without_the_subprotocol(chunks: list[bytes]) -> None:
    """It is not published to: nothing could be resumed there."""

    async def talk(peer: Peer) -> None:
        return

    async with fake(talk, subprotocol=None) as server:
        with pytest.raises(ConnectionFailed, match=r"does not speak ingestd\.v1"):
            await publish(server.url, *chunks)


async def test_what_the_source_raises_ends_it_in_order(chunks: list[bytes]) -> None:
    """What came before is acknowledged, `end` is said, and the error arrives as it was."""
    ledger = Ledger()

    async def broken() -> AsyncIterator[bytes]:
        for chunk in chunks[:3]:
            yield chunk
        raise KeyError("camera")

    async with fake(ending(ledger)) as server:
        with pytest.raises(KeyError, match="camera"):
            await Publisher(server.url, KEY).run(broken())
    assert ledger.ended
    assert ledger.taken == chunks[:3]


async def test_a_full_buffer_makes_the_source_wait(chunks: list[bytes]) -> None:
    """Of what is not acknowledged no more is kept than the buffer holds, and one chunk."""
    ledger, taken = Ledger(), 0

    async def counting() -> AsyncIterator[bytes]:
        nonlocal taken
        for chunk in chunks:
            taken += len(chunk)
            yield chunk

    go_on = trio.Event()

    async def reluctant(peer: Peer) -> None:
        await peer.welcome(ledger)
        while len(ledger.taken) < 3:
            ledger.take(await peer.socket.get_message())
        await go_on.wait()
        await peer.say("ack", next=ledger.next)
        await peer.take(ledger)
        await peer.close(1000)

    async with fake(reluctant) as server, trio.open_nursery() as nursery:
        running = Publisher(server.url, KEY, buffer=Buffer(size=200_000))
        results: list[Published] = []

        async def run() -> None:
            results.append(await running.run(counting()))

        nursery.start_soon(run)
        await trio.sleep(0.5)
        assert running.outbox.full
        assert 200_000 <= taken < 200_000 + 2 * max(map(len, chunks))
        go_on.set()
    assert results[0].complete
    assert ledger.taken == chunks


async def test_a_server_that_records_no_more_holds_nobody_back(chunks: list[bytes]) -> None:
    """Its disk is full, it acknowledges nothing: what is sent is forgotten, and said to be missing."""
    ledger = Ledger()

    async def careless(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 2)
        await peer.say("warning", code="not_recorded", text="the disk is full")
        await peer.take(ledger, ack=False)
        await peer.close(1000)

    async with fake(careless) as server:
        done = await publish(server.url, *chunks, buffer=Buffer(size=100_000))
    assert ledger.taken == chunks
    assert (done.code, done.complete, done.chunks) == (1000, False, 2)
    assert done.missing_chunks == len(chunks) - 2


async def test_a_full_buffer_drops_to_a_keyframe_and_says_so() -> None:
    """While there is no connection: one skip, one gap, with the number of chunks that were dropped."""
    items, ledger, heard = capture("cv-h264webm-100.mkv").chunks(), Ledger(), list[Event]()
    away = trio.Event()

    async def live() -> AsyncIterator[bytes]:
        for number, chunk in enumerate(items):
            if number == 6:
                await away.wait()
            yield chunk
            await trio.lowlevel.checkpoint()

    async def vanish(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 6)
        peer.socket._stream.socket.close()  # type: ignore[attr-defined]
        away.set()

    async def back(peer: Peer) -> None:
        await trio.sleep(0.2)
        await to_the_end(ledger, peer)

    async with fake(vanish, back) as server:
        box = Buffer(size=100_000, drop=True)
        done = await Publisher(server.url, KEY, buffer=box, on_event=heard.append).run(live())
    (gap,) = ledger.gaps
    (dropped,) = [event for event in heard if isinstance(event, Dropped)]
    assert dropped.chunks == gap == done.missing_chunks > 0
    assert dropped.bytes == done.missing_bytes
    assert (done.gaps, done.complete, done.code) == (1, False, 1000)
    assert len(ledger.files) == 2


async def test_a_token_stays_good(chunks: list[bytes]) -> None:
    """A hello of a session that is resumed need not repeat it."""
    ledger = Ledger()

    async def again(peer: Peer) -> None:
        await peer.welcome(ledger, token=None)
        await peer.take(ledger, 2)
        await peer.close(1011)

    async with fake(cutting(ledger, 1011), again, again, ending(ledger, token=None)) as server:
        assert (await publish(server.url, *chunks)).complete
    resume = {"session": "S1", "token": "T1"}
    assert [opening.get("resume") for opening in server.openings] == [None, resume, resume, resume]


async def test_a_hello_is_waited_for_so_long(chunks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers pings and says nothing else is left, and connected to again."""
    monkeypatch.setattr(conversation, "HELLO_TIMEOUT", 0.3)
    ledger, heard = Ledger(), list[Event]()

    async def mute(peer: Peer) -> None:
        await trio.sleep_forever()

    async with fake(mute, ending(ledger)) as server:
        assert (await publish(server.url, *chunks, on_event=heard.append)).complete
    assert heard[0] == Lost(1006, "no hello within 0.3 s", 0.0)


async def test_a_session_that_cannot_be_resumed(chunks: list[bytes]) -> None:
    """Without a token the session is asked for by the key alone, and goes on if it is still there."""
    ledger = Ledger()

    async def cut(peer: Peer) -> None:
        await peer.welcome(ledger, token=None)
        await peer.take(ledger, 2)
        await peer.close(1011)

    async with fake(cut, ending(ledger)) as server:
        assert (await publish(server.url, *chunks)).complete
    assert [opening.get("resume") for opening in server.openings] == [None, None]
    assert ledger.taken == chunks


async def test_a_source_names_its_recorders(chunks: list[bytes]) -> None:
    """Their types are announced; one that begins unannounced is found by its bytes."""
    ledger, said = Ledger(), list[dict[str, Any]]()

    async def listen(peer: Peer) -> None:
        await peer.welcome(ledger)
        while not ledger.ended:
            message = await peer.socket.get_message()
            if isinstance(message, str):
                said.append(json.loads(message))
            ledger.take(message)
        await peer.say("ack", next=ledger.next)
        await peer.close(1000)

    data = b"".join(chunks)[: access_points(b"".join(chunks))[-1]]
    items = [NewRecorder("video/webm"), chunks[0], NewRecorder("video/x"), data[:1], data[1:] + data]
    async with fake(listen) as server:
        assert (await publish(server.url, *items)).complete
    assert said == [
        {"type": "recorder", "number": 0, "mime": "video/webm"},
        {"type": "recorder", "number": 1, "mime": "video/x", "follows": True},
        {"type": "recorder", "number": 2, "mime": "video/x", "follows": True},
        {"type": "end"},
    ]
    assert ledger.files == [chunks[0], data, data]


async def test_it_says_how_it_is_doing(chunks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "STATS_EVERY", 0.05)
    ledger, said = Ledger(), list[dict[str, Any]]()

    async def listen(peer: Peer) -> None:
        await peer.welcome(ledger)
        await peer.take(ledger, 2, ack=False)
        said.append(json.loads(str(await peer.socket.get_message())))
        await peer.close(4401)

    async with fake(listen) as server:
        await publish(server.url, *chunks[:2], stay=True, bitrate=1_500_000)
    size = sum(map(len, chunks[:2]))
    stats = {"type": "stats", "buffered_bytes": size, "dropped_chunks": 0, "bitrate": 1_500_000}
    assert said == [stats]


async def test_cancelled_it_goes_without_an_end(chunks: list[bytes]) -> None:
    """The session then waits for its publisher."""
    ledger, codes = Ledger(), list[int]()
    gone = trio.Event()

    async def listen(peer: Peer) -> None:
        await peer.welcome(ledger)
        try:
            await peer.take(ledger)
        except ConnectionClosed as closed:
            codes.append(closed.reason.code)
        gone.set()

    async with fake(listen) as server:
        with trio.move_on_after(0.3):
            await publish(server.url, *chunks, stay=True)
        with trio.fail_after(5):
            await gone.wait()
    assert codes == [1006]
    assert not ledger.ended


def test_the_table_is_the_specification_s() -> None:
    """Each code of docs/protocol.md does what it says there."""
    from tests.sources.test_protocol_docs import PAGE

    table = PAGE.partition("## Close codes")[2].partition("Of a code that")[0]
    words = {
        "stop": Then.STOP, "resume": Then.RESUME, "begin anew": Then.ANEW, "try again later": Then.LATER,
        "stop, or try again later": Then.LATER,
    }  # fmt: skip
    found = 0
    for row in table.splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) > 2 and cells[1].isdigit():
            found += 1
            then = after_code(int(cells[1]))
            if "after a while" in cells[2]:
                assert then is Then.ANEW_LATER
            else:
                assert then is words[cells[2].partition(":")[0].partition(", without")[0]], row
    assert found == 21


def test_the_pauses_grow_and_vary() -> None:
    """At once, then 0.2 s doubling to the longest, each within a quarter of it."""
    backoff = Backoff(longest=2.0)
    pauses = [backoff.next() for _ in range(50)]
    assert pauses[0] == 0.0
    for pause, middle in zip(pauses[1:], (0.2, 0.4, 0.8, 1.6, *[2.0] * 45), strict=True):
        assert 0.74 * middle < pause <= middle
    assert len(set(pauses)) == 50
    backoff.reset(worked=False)
    assert 0.14 < backoff.next() <= 0.2
    backoff.reset(worked=True)
    assert backoff.next() == 0.0


def test_no_secret_is_shown() -> None:
    with suppress(AttributeError):
        assert KEY not in repr(Publisher("ws://x/stream/live", KEY))
