"""Publishers that are there no more, or make no progress; and one whom only we hold back."""

from __future__ import annotations

from contextlib import suppress

import trio
from structlog.testing import capture_logs

from tests.sources.receiving import ACCEPTED, BINARY, CLOSE, KEY, PING, PONG, Client, Door, frame, receiver
from tests.sources.speaking import chunk, opened, speaker, text

PINGING = {"ping_interval": 0.1, "ping_timeout": 0.3}


async def answer_pings(client: Client) -> None:
    """Answer each ping, until the server closes; the close frame is left to `close_code`."""
    while (received := await client.frame()) is not None:
        if received[0] == PING:
            await client.send(frame(PONG, received[1]))


async def test_a_half_open_publisher_is_dropped() -> None:
    """It upgraded, and never answers a ping: 4410, and the connection is reset when that is not read."""
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        assert await client.close_code() == (4410, "half-open: no pong for 0.3 s")
        assert await r.door.all_chunks() == []


async def test_a_silent_publisher_that_answers_pings_stays() -> None:
    """A canvas that stops drawing sends nothing, and is no fault."""
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        with trio.move_on_after(1.5):
            await answer_pings(client)
        await client.send(frame(BINARY, b"here again"))
        assert await r.door.receive() == b"here again"


async def test_bytes_are_a_sign_of_life() -> None:
    """A pong that waits behind media on a slow uplink does not end the stream."""
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        for i in range(15):
            await client.send(frame(BINARY, bytes([i])))
            assert await r.door.receive() == bytes([i])
            await trio.sleep(0.1)
        assert (await client.close_code())[0] == 4410


async def test_no_message_for_idle_timeout() -> None:
    """4408, though every ping is answered; each message starts the time again."""
    async with receiver(idle_timeout=1.0) as r:
        client = await r.publisher()
        for _ in range(3):
            await trio.sleep(0.5)
            await client.send(frame(BINARY))
        assert await client.close_code() == (4408, "stalled: no message for 1 s")


async def test_a_message_that_never_completes_is_a_stall() -> None:
    """A header that promises bytes, with all pings answered: 4408 with a reason of its own."""
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        await client.send(frame(BINARY, bytes(5000))[:100])
        received = await client.frame()
        while received is not None and received[0] == PING:
            await client.send(b"\x00")  # lands inside the message's payload, as all that it sends now
            received = await client.frame()
        assert received is not None
        opcode, payload = received
        assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 4408)
        assert payload[2:] == b"stalled: a message was begun, and not complete after 0.4 s"


async def test_a_trickle_is_a_stall() -> None:
    """A byte now and then keeps the connection alive, and does not make a message."""
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        await client.send(frame(BINARY, b"first", fin=False))

        async def trickle() -> None:
            while True:
                await client.send(frame(0, b"x", fin=False) + frame(PONG))
                await trio.sleep(0.03)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert (await client.close_code(reply=False))[0] == 4408
            nursery.cancel_scope.cancel()


async def test_a_long_message_at_a_live_rate_is_no_stall() -> None:
    """What takes longer than the grace period is let finish while it comes fast enough."""
    sent = frame(BINARY, bytes(200_000))
    async with receiver(**PINGING) as r:
        client = await r.publisher()
        for start in range(0, len(sent), 10_000):
            await client.send(sent[start : start + 10_000])
            await trio.sleep(0.05)
        assert len(await r.door.receive()) == 200_000


async def test_a_full_channel_stops_the_sender() -> None:
    """The socket is not read: TCP blocks the publisher after a bounded number of bytes."""
    door = Door(capacity=2)
    async with receiver(door, receive_buffer=64 * 2**10) as r:
        client = await r.publisher()
        chunk, accepted = frame(BINARY, bytes(100_000)), 0
        # Loopback buffers are large and differ between hosts: accept what both ends of one may hold.
        while accepted < 64 * 2**20:
            with trio.move_on_after(0.5) as scope:
                await client.send(chunk)
            if scope.cancelled_caught:
                break
            accepted += len(chunk)
        assert scope.cancelled_caught, "64 MiB went into a channel of two chunks"
        assert door.chunks.statistics().current_buffer_used == 2
        assert accepted >= 3 * len(chunk)


async def test_a_publisher_that_we_hold_back_is_not_dropped() -> None:
    """For many times interval + timeout its pongs lie unread; when there is room again, nothing is lost."""
    door = Door(capacity=1)
    chunks = [bytes([i]) * 50_000 for i in range(100)]
    async with receiver(door, receive_buffer=64 * 2**10, idle_timeout=1.0, **PINGING) as r:
        client = await r.publisher()

        async def publish() -> None:
            for chunk in chunks:
                await client.send(frame(BINARY, chunk))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(answer_pings, client)
            await trio.sleep(2.5)
            taken = []
            for _ in chunks:
                taken.append(await door.receive())
                await trio.sleep(0.01)
            assert taken == chunks
            nursery.cancel_scope.cancel()


# The same with the subprotocol

LINES = ["x" * 300] * 190  # a long notice: those that wait fill every buffer at once


async def test_a_client_that_does_not_read_is_dropped() -> None:
    """Its chunks are taken all the while; then 4410, of which it cannot be told."""
    door, taken = Door(), 0
    with capture_logs() as logs:
        async with receiver(door, ping_interval=60, ping_timeout=1.0) as r:
            client = await opened(r)
            with suppress(trio.EndOfChannel, trio.BrokenResourceError):
                while True:
                    for _ in range(64):
                        door.tell("warning", lines=LINES)
                    await client.send(chunk(taken))
                    assert await door.receive() == b"x"
                    taken += 1
                    await trio.sleep(0.02)
    assert (logs[-1]["code"], logs[-1]["reason"]) == (4410, "half-open: nothing was read for 1 s")
    assert taken >= 20


async def test_a_client_that_reads_late_is_not_dropped() -> None:
    """Half the time of ping_timeout without reading is no fault, again and again."""
    door = Door()
    async with receiver(door, ping_interval=60, ping_timeout=1.0) as r:
        client = await opened(r)
        for _ in range(4):
            for _ in range(20):
                for _ in range(64):
                    door.tell("warning", lines=LINES)
                await trio.sleep(0.02)
            with trio.move_on_after(0.3):
                while True:
                    await client.hear()
        await client.send(chunk(0))
        assert await door.receive() == b"x"


async def test_no_clock_runs_before_hello() -> None:
    """The session takes its time, a takeover for example; pings and silence are judged from hello on."""
    door = Door(accepts=None)
    async with receiver(door, idle_timeout=1.0, **PINGING) as r:
        client = await speaker(r)
        await client.send(text("open", key=KEY))
        await trio.sleep(1.5)
        door.accept(ACCEPTED)
        assert await client.hear() != {}
        assert await client.closing() == (4408, "stalled: no message for 1 s")


async def test_silence_after_the_end_is_no_fault() -> None:
    """While the last chunks wait for the journal, nothing is expected of the client."""
    async with receiver(idle_timeout=1.0) as r:
        client = await opened(r)
        await client.send(chunk(0), text("end"))
        await trio.sleep(1.6)
        r.door.acknowledge(1)
        assert (await client.closing())[0] == 1000


async def test_words_are_no_media() -> None:
    """Text messages do not put idle_timeout off; chunks do."""
    async with receiver(idle_timeout=1.0) as r:
        client = await opened(r)
        await trio.sleep(0.6)
        await client.send(chunk(0))
        began = trio.current_time()
        with trio.move_on_after(0.9):
            while True:
                await client.send(text("stats", bitrate=1))
                await trio.sleep(0.05)
        assert await client.closing() == (4408, "stalled: no message for 1 s")
        assert trio.current_time() - began < 2


async def test_a_half_open_client_of_the_subprotocol() -> None:
    """It never answers a ping; acknowledgements go on until then."""
    async with receiver(**PINGING) as r:
        client = await opened(r)
        opcode, payload = 0, b""
        while opcode != CLOSE:
            received = await client.client.frame()
            assert received is not None
            opcode, payload = received
        assert int.from_bytes(payload[:2]) == 4410


async def test_a_client_that_we_hold_back_is_not_dropped() -> None:
    """With a full channel it hears notices and acknowledgements, and loses nothing."""
    door = Door(capacity=1)
    async with receiver(door, receive_buffer=64 * 2**10, **PINGING) as r:
        client = await opened(r)

        async def publish() -> None:
            for number in range(100):
                await client.send(chunk(number, bytes(50_000)))

        async def listen() -> None:
            while True:
                heard.append(await client.hear())

        heard: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(listen)
            await trio.sleep(1.0)
            door.tell("pressure", active=True)
            await trio.sleep(1.0)
            assert heard == [{"type": "pressure", "active": True}]
            for number in range(100):
                assert len(await door.receive()) == 50_000
                door.acknowledge(number + 1)
            await trio.sleep(0.3)
            assert heard[-1] == {"type": "ack", "next": 100}
            nursery.cancel_scope.cancel()
