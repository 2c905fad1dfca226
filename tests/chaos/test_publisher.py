"""What the fault runner publishes, and the gate on the way to a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from chaos.card import SLICE, Card
from chaos.gate import gate
from ingestd.media.frames import NS_PER_S, Frame, Header
from ingestd.media.webm_demux import Demuxer
from tests.support.counting import NumberedFrame, assert_same_frames, read_video


def media(chunks: list[bytes]) -> tuple[Header, list[Frame]]:
    demuxer = Demuxer()
    events = [event for chunk in chunks for event in demuxer.feed(chunk)] + demuxer.close()
    (header,) = (event for event in events if isinstance(event, Header))
    return header, [event for event in events if isinstance(event, Frame)]


def test_a_later_recorder_begins_with_a_header_and_a_keyframe(made: Card, tmp_path: Path) -> None:
    """Its times begin at 0, its numbers go on with those of the card, and all to the end is there."""
    recorder = made.recorder(5.0)
    chunks = list(recorder.chunks)
    header, frames = media(chunks)
    _, all_frames = media(made.chunks)
    assert 5.0 <= recorder.begins < 5.0 + 3.5
    assert chunks[0].startswith(b"\x1a\x45\xdf\xa3")
    assert (frames[0].timestamp, frames[0].keyframe) == (0, True)
    assert {track.codec for track in header.tracks} == {"vp8", "opus"}
    assert len(frames) == sum(frame.timestamp >= recorder.begins * NS_PER_S for frame in all_frames)
    assert len(chunks) == pytest.approx((20 - recorder.begins) / SLICE, abs=2)

    def numbers(name: str, data: list[bytes]) -> list[NumberedFrame]:
        (tmp_path / name).write_bytes(b"".join(data))
        return read_video(tmp_path / name)

    later, whole = numbers("later.webm", chunks), numbers("whole.webm", made.chunks)
    moved = [(pts + recorder.begins, number) for pts, number in later]
    assert_same_frames(moved, [frame for frame in whole if frame[0] >= recorder.begins - 0.001])


def test_a_recorder_after_the_last_keyframe_has_nothing(made: Card) -> None:
    """And one from the beginning is the card."""
    assert made.recorder(19.9).chunks == []
    assert made.recorder().chunks is made.chunks
    recorder = made.recorder()
    recorder.sent = 10
    assert recorder.reached == pytest.approx(3.0)


async def test_a_gate_relays_and_a_shut_one_takes_next_to_nothing() -> None:
    """Some ten kilobytes, where loopback takes megabytes; opened again, all of it arrives."""
    got = bytearray()

    async def take(stream: trio.SocketStream) -> None:
        async for data in stream:
            got.extend(data)
        await stream.send_all(b"bye")

    async def serve(nursery: trio.Nursery) -> int:
        listeners = await nursery.start(trio.serve_tcp, take, 0)
        port: int = listeners[0].socket.getsockname()[1]
        return port

    sent = 0
    async with trio.open_nursery() as nursery:
        with gate(await serve(nursery)) as before_it:
            nursery.start_soon(before_it.run)
            async with await trio.open_tcp_stream("127.0.0.1", before_it.port) as stream:
                sent += await send(stream, 100)
                await until(lambda: len(got) == sent)
                before_it.shut()
                for _ in range(1000):
                    with trio.move_on_after(0.5) as blocked:
                        sent += await send(stream, 1)
                    if blocked.cancelled_caught:
                        break
                assert 0 < sent - len(got) < 200_000
                before_it.open()
                await until(lambda: len(got) >= sent)
                await stream.send_eof()
                assert await stream.receive_some() == b"bye"
        nursery.cancel_scope.cancel()


async def send(stream: trio.SocketStream, times: int) -> int:
    """Send so many kilobytes; returns how many bytes that was."""
    for _ in range(times):
        await stream.send_all(bytes(1024))
    return times * 1024


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  a buffer cannot be waited for
            await trio.sleep(0.01)
