"""The outbox against a strict server: whatever breaks whenever, none twice and none missing."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from ingestd.client.outbox import OVERHEAD, Buffer, Outbox
from ingestd.client.scan import Scan
from tests.client.ledger import Ledger, access_points, frames_of, header_of
from tests.support.captures import capture

#: VP8, H.264 in Matroska, sound only, pictures only, MP4, and several recorders one after the other.
NAMES = (
    "cv-vp8-250.webm", "cv-h264webm-100.mkv", "gum-audio-250.webm", "gum-vp8-videoonly-250.webm",
    "cv-mp4avc-250.mp4", "cv-vp8-restart.webm", "cv-mp4avc-restart.mp4",
)  # fmt: skip


def greet(box: Outbox, server: Ledger, *, same: bool) -> None:
    told = server.connect()
    box.greet(told["following"], told["recorder"], told["max_message"], same=same)


def deliver(box: Outbox, server: Ledger, *, last: bool = False, most: int = 2**30) -> bool:
    """Hand over up to *most* messages; False if the connection breaks between those that belong together."""
    while most and (said := box.take(last=last)):
        for message in said[:most]:
            server.take(message)
        if len(said) > most:
            return False
        most -= len(said)
    return True


def recut(data: bytes, rng: random.Random, mean: int) -> list[bytes]:
    chunks = []
    while data:
        size = rng.randint(1, 2 * mean)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_finds_what_can_be_gone_on_with(name: str) -> None:
    """The same random access points and headers however the bytes are cut."""
    for data in capture(name).recorders():
        for mean in (200, 5_000, 70_000):
            scan, found = Scan(), []
            for piece in [*map(bytes, zip(data[:3000])), *recut(data[3000:], random.Random(name), mean)]:
                seen = scan.feed(piece)
                found += seen.access
                assert seen.next is None
            assert found == access_points(data)
            assert scan.header == header_of(data)


@pytest.mark.parametrize("name", NAMES)
def test_connections_that_break_anywhere(name: str) -> None:
    """Acknowledged or not, in the middle of a message or of a skip: the server has the source's bytes."""
    source = capture(name)
    for seed in range(60):
        rng = random.Random(f"{name} {seed}")
        box, server = Outbox(), Ledger(most=rng.choice((2**24, 2**24, 1000, 100_000)))
        same = online = False
        acknowledged = 0
        for chunk in source.chunks():
            box.put(chunk, 0.0)
            if not online and rng.random() < 0.5:
                greet(box, server, same=same)
                same = online = True
                acknowledged = server.next
            if online:
                online = deliver(box, server, most=rng.choice((1, 2, 5, 100))) and rng.random() < 0.8
                acknowledged = rng.randint(acknowledged, server.next)
                box.acknowledge(acknowledged)
                if not online:
                    box.hang_up()
        greet(box, server, same=same)
        deliver(box, server, last=True)
        box.acknowledge(server.next)
        assert server.gaps == []
        assert server.files == source.recorders(), f"seed {seed}"
        assert box.empty
        assert (box.buffered.chunks, box.buffered.bytes) == (0, 0)
        assert box.acknowledged == box.given
        assert box.given.bytes == len(source.data())


def original_frames(chunks: Sequence[bytes]) -> set[tuple[int, int, bytes]]:
    return set(frames_of(b"".join(chunks)))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_dropped_is_said(name: str) -> None:
    """A buffer that is too small, sessions that end: frames are whole, and every chunk is counted."""
    source = capture(name)
    expected = {frame for data in source.recorders() for frame in frames_of(data)}
    gaps = 0
    for seed in range(80):
        rng = random.Random(f"{name} {seed}")
        limit = rng.choice((20_000, 100_000, 300_000))
        box = Outbox(Buffer(size=limit, seconds=rng.choice((None, 3.0)), drop=True))
        servers = [Ledger(most=rng.choice((2**24, 5000)))]
        same = online = False
        largest = max(map(len, source.chunks())) + OVERHEAD
        for number, chunk in enumerate(source.chunks()):
            box.put(chunk, number * 0.25)
            if not online and rng.random() < 0.15:
                if same and rng.random() < 0.2:
                    servers.append(Ledger())
                    same = False
                greet(box, servers[-1], same=same)
                same = online = True
            if online:
                server = servers[-1]
                online = deliver(box, server, most=rng.choice((1, 2, 5, 100))) and rng.random() < 0.8
                if rng.random() < 0.5:
                    box.acknowledge(server.next)
                if not online:
                    box.hang_up()
            assert box.buffered.bytes <= max(limit, 2 * largest) + 100_000
        server = servers[-1]
        greet(box, server, same=same)
        deliver(box, server, last=True)
        box.acknowledge(server.next)
        assert box.empty
        assert box.given.chunks == box.acknowledged.chunks + box.dropped.chunks, f"seed {seed}"
        assert box.given.bytes == box.acknowledged.bytes + box.dropped.bytes, f"seed {seed}"
        assert bool(box.gaps) == bool(box.dropped.bytes)
        for each in servers:
            assert sum(each.gaps) <= box.dropped.chunks
            for file in each.files:
                assert set(frames_of(file)) <= expected, f"seed {seed}"
        gaps += sum(len(each.gaps) for each in servers)
        if len(servers) == 1 and not box.dropped.bytes:
            assert server.files == source.recorders()
    assert gaps > 10


def test_a_source_that_waits_is_not_waited_for_in_vain() -> None:
    """Another session needs a keyframe; if the full buffer has none, the source goes on until it comes."""
    chunks = capture("cv-vp8-250.webm").chunks()
    box, first, second = Outbox(Buffer(size=200_000)), Ledger(), Ledger()
    greet(box, first, same=False)
    box.put(chunks[0], 0.0)
    deliver(box, first)
    box.acknowledge(first.next)
    box.hang_up()
    given = 1
    while not box.full:
        box.put(chunks[given], 0.0)
        given += 1
    greet(box, second, same=False)
    for chunk in chunks[given:]:
        assert not box.full
        box.put(chunk, 0.0)
        deliver(box, second)
        box.acknowledge(second.next)
        assert box.buffered.bytes < 200_000 + max(map(len, chunks))
    assert second.taken
    assert box.empty
    assert box.gaps == 1
    assert box.given.bytes == box.acknowledged.bytes + box.dropped.bytes


def test_a_server_that_forgot_what_it_acknowledged() -> None:
    """Its machine died: what is gone here, too, is skipped, and no longer counted as acknowledged."""
    chunks = capture("cv-h264webm-100.mkv").chunks()
    box, server = Outbox(), Ledger()
    greet(box, server, same=False)
    for chunk in chunks[:12]:
        box.put(chunk, 0.0)
    deliver(box, server)
    box.acknowledge(10)
    box.hang_up()
    again = Ledger(next=7, recorder=0, files=[b"".join(chunks[:7])])
    greet(box, again, same=True)
    for chunk in chunks[12:]:
        box.put(chunk, 0.0)
    deliver(box, again, last=True)
    box.acknowledge(again.next)
    (gap,) = again.gaps
    assert gap >= 3
    assert again.seconds == [None]
    assert box.given.chunks == len(chunks) == box.acknowledged.chunks + box.dropped.chunks
    assert box.acknowledged.chunks == again.next - gap
    assert [frames_of(file) for file in again.files][1]


def test_somebody_else_has_published_meanwhile() -> None:
    """The same session, and numbers or recorders that are not ours: what is kept begins another recorder."""
    chunks = capture("cv-vp8-250.webm").chunks()
    for following, recorder in ((9, 0), (3, 1)):
        box, server = Outbox(), Ledger()
        greet(box, server, same=False)
        box.put(chunks[0], 0.0)
        box.put(chunks[1], 0.0)
        deliver(box, server)
        box.hang_up()
        other = Ledger(next=following, recorder=recorder, files=[b"theirs"])
        greet(box, other, same=True)
        deliver(box, other)
        assert other.recorder == recorder + 1
        assert other.files == [b"theirs", chunks[0] + chunks[1]]
        assert other.gaps == []


def test_a_gap_is_as_long_as_what_was_dropped_of_it() -> None:
    """From when its first chunk was given to when the one was that it ends with; not the time away."""
    chunks = capture("cv-h264webm-100.mkv").chunks()
    box, server = Outbox(Buffer(size=100_000, drop=True)), Ledger()
    greet(box, server, same=False)
    box.put(chunks[0], 1.0)
    deliver(box, server)
    box.acknowledge(server.next)
    box.hang_up()
    for number, chunk in enumerate(chunks[1:], 2):
        box.put(chunk, float(number))
    greet(box, server, same=True)
    deliver(box, server)
    assert server.seconds == server.gaps  # one chunk a second
    assert server.gaps[0] > 1


def test_the_end_of_a_gap_may_be_the_end_of_all() -> None:
    """Without another keyframe the rest is dropped, and the skip is the last that is said."""
    chunks = capture("cv-vp8-250.webm").chunks()[:10]
    box, server = Outbox(Buffer(size=100_000, drop=True)), Ledger()
    greet(box, server, same=False)
    box.put(chunks[0], 0.0)
    deliver(box, server)
    box.hang_up()
    for chunk in chunks[1:]:
        box.put(chunk, 0.0)
    greet(box, server, same=True)
    deliver(box, server)
    assert server.gaps == []
    deliver(box, server, last=True)
    box.acknowledge(server.next)
    assert (server.gaps, server.seconds) == ([9], [None])
    assert box.empty
    assert (box.dropped.chunks, box.gaps) == (9, 1)


def announced(said: Sequence[str | bytes]) -> list[tuple[int, bool]]:
    """Number and ``follows`` of each recorder among the messages *said*."""
    told = [json.loads(message) for message in said if isinstance(message, str)]
    return [(each["number"], each.get("follows", False)) for each in told if each["type"] == "recorder"]


def test_it_says_which_recorder_follows_another() -> None:
    """The first of this client does not, whatever the server had; the others say so as often as they come."""
    data = capture("cv-vp8-restart.webm").recorders()
    box = Outbox()
    for recorder in data:
        box.put(recorder, 0.0)
    box.greet(0, None, 2**24, same=False)
    said = [message for _ in range(99) for message in box.take(last=True)]
    assert announced(said) == [(0, False), (1, True)]
    count = box.due
    # The connection broke between them: all of the first was acknowledged.
    box.hang_up()
    before = next(at for at, message in enumerate(m for m in said if isinstance(m, bytes)) if message[11])
    box.greet(before, 0, 2**24, same=True)
    assert announced([message for _ in range(99) for message in box.take(last=True)]) == [(1, True)]
    assert box.due == count
    # And in a session that knows nothing of the first, it is the first.
    box.hang_up()
    box.greet(0, None, 2**24, same=False)
    assert announced([message for _ in range(99) for message in box.take(last=True)]) == [(0, False)]
