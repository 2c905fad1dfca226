"""The test card answers pressure: it lowers its bit rate, and says what it does in words."""

from __future__ import annotations

import io
from contextlib import aclosing

import trio
from attrs import evolve
from rich.console import Console

from ingestd.cli.card import BitRate, card
from ingestd.cli.events import Narrator
from ingestd.cli.progress import Standing, open_meter
from ingestd.client import Drain, Dropped, End, Event, Hello, Lost, Pressure, SourceWarning, StreamState
from ingestd.client.messages import Limits
from ingestd.media.demux import begins_container
from tests.client.ledger import frames_of

ON, OFF = Pressure(active=True), Pressure(active=False)


def press(rate: BitRate, now: float, *, active: bool = True) -> int:
    rate.press(now, active=active)
    rate.drawn = rate.wanted
    return rate.drawn


def test_the_bit_rate_under_pressure() -> None:
    """Halved, at most every 10 s, down to a quarter; doubled after each quiet minute, up to the usual one."""
    rate = BitRate(800, 800, 800)
    assert [press(rate, now) for now in (0, 1, 9.9, 10, 20, 40)] == [400, 400, 400, 200, 200, 200]
    assert press(rate, 50, active=False) == 200
    seen = []
    for now in range(51, 400):
        rate.settle(now)
        rate.drawn = rate.wanted
        seen.append((now, rate.drawn))
    assert [next(now for now, bits in seen if bits == wanted) for wanted in (400, 800)] == [100, 160]
    assert seen[-1][1] == 800


def test_what_is_not_yet_drawn_is_not_changed_again() -> None:
    """Pressure that is told every second meanwhile is one and the same."""
    rate = BitRate(800, 800, 800)
    for now in range(100):
        rate.press(now, active=True)
    assert (rate.wanted, rate.drawn) == (400, 800)


async def test_a_lower_bit_rate_is_another_recorder(ffmpeg: str) -> None:
    """The one before ends whole; the next one begins with a container of its own, and is thinner."""
    rate = BitRate()
    pieces: list[list[bytes]] = []
    async with aclosing(card(ffmpeg, 7.0, rate)) as chunks:
        async for at, chunk in chunks:
            if begins_container(chunk) or not pieces:
                pieces.append([])
            pieces[-1].append(chunk)
            if at > 2.5:
                rate.press(trio.current_time(), active=True)
    first, second = [b"".join(piece) for piece in pieces]
    for recorder in (first, second):
        assert len(frames_of(recorder)) > 50
    seconds = [frames_of(recorder)[-1][1] / 1e9 for recorder in (first, second)]
    assert 2.0 < seconds[0] < 4.0
    assert 5.5 < sum(seconds) < 8.5
    assert video_rate(second) < 0.8 * video_rate(first)


def video_rate(data: bytes) -> float:
    """Bytes a second of the first track, without its first keyframe."""
    frames = [frame for frame in frames_of(data) if frame[0] == 1]
    return sum(len(payload) for _, _, payload in frames[1:]) / (frames[-1][1] - frames[0][1]) * 1e9


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=200, highlight=False), out


def test_what_happens_is_said_once() -> None:
    """Losses and pressure are told again and again; a line comes only when something changes."""
    limits = Limits(max_message=99, window=60, ack="written")
    hello = Hello(stream="cam", session="S1", token=None, next=0, recorder=None, resumed=False, limits=limits)
    another = evolve(hello, session="S2")
    events: list[Event] = [
        hello, StreamState(stream="live"), ON, ON, OFF, OFF, SourceWarning("x", "no keyframe [bold]for 9 s"),
        Lost(1006, "the connection broke", 0.0), Lost(1006, "Connection refused", 0.2), hello,
        Dropped(1, 1000), Lost(4404, "over", 0.2), another, Drain("deploy"), Drain(""), End(1000, "done"),
    ]  # fmt: skip
    shown, out = console()
    narrator = Narrator(shown)
    for event in events:
        narrator.hear(event)
    assert out.getvalue().splitlines() == [
        "session S1 of stream cam",
        "the daemon is behind",
        "the daemon has caught up",
        "the daemon warns: no keyframe [bold]for 9 s",
        "lost the connection (1006: the connection broke); trying again",
        "connected again: going on, S1",
        "dropped 1 chunk (1.0 kB): the buffer was full",
        "lost the connection (4404: over); trying again",
        "connected again: another session, S2",
        "the daemon is about to stop: deploy",
        "the daemon is about to stop",
    ]


async def test_a_line_now_and_then(autojump_clock: trio.abc.Clock) -> None:
    """Where there is no terminal: every 10 s, with all that is out of the ordinary."""
    shown, out = console()
    with open_meter(shown, 60.0) as meter:
        for second in range(21):
            meter(Standing(at=second, done=second * 100_000, buffered=2_000, reconnects=second // 15))
            await trio.sleep(1)
        meter(Standing(at=20, done=2_000_000, buffered=0, connected=False, dropped=2, ending=True))
        await trio.sleep(10)
        meter(Standing(at=20, done=2_000_000, buffered=0, connected=False, dropped=2, ending=True))
    assert out.getvalue().splitlines() == [
        "0:10 / 1:00 · 800 kbit/s · 1.0 MB acknowledged · 2.0 kB buffered",
        "0:20 / 1:00 · 800 kbit/s · 2.0 MB acknowledged · 2.0 kB buffered · 1 reconnect",
        "0:20 / 1:00 · 0 kbit/s · 2.0 MB acknowledged · 0 B buffered · 2 chunks dropped · not connected"
        " · ending; Ctrl-C again does not wait",
    ]
