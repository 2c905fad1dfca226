"""The faults. Each is injected from outside the daemon, and says how long it took to get over it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import trio
from attrs import frozen

from chaos.card import SLICE

if TYPE_CHECKING:
    from chaos.live import Live

Status = dict[str, Any]

_VERBS = {signal.SIGKILL: "kill", signal.SIGSTOP: "stop", signal.SIGTERM: "terminate"}
_RECONNECT = 1001  # the close code of a daemon that stops


class Fault(Protocol):
    """Something that happens to a live run.

    *hurts* is what it hits: ``encoder``, a sink's name, ``publisher``, ``disk`` or ``daemon``.
    """

    @property
    def name(self) -> str: ...

    @property
    def hurts(self) -> str: ...

    async def inject(self, live: Live, rng: random.Random) -> float | None:
        """Strike, and return the seconds until all was well again; None where nothing comes back.

        Raises AssertionError when it does not come back in time.
        """
        ...


def part_of(status: Status, name: str) -> Status | None:
    """What *status* says of the encoder, or of the sink *name*."""
    if name == "encoder":
        encoder: Status | None = status["encoder"]
        return encoder
    return next((sink for sink in status["sinks"] if sink["name"] == name), None)


def runs(name: str, *, not_as: int | None = None) -> Callable[[Status], bool]:
    """A condition: the encoder or sink *name* runs, by a process other than *not_as*."""

    def condition(status: Status) -> bool:
        part = part_of(status, name)
        return part is not None and part["state"] == "running" and part["pid"] not in (None, not_as)

    return condition


@frozen(slots=True)
class Signal:
    """SIGKILL or SIGSTOP of an FFmpeg: *hurts* is ``encoder`` or a sink's name."""

    hurts: str
    number: signal.Signals

    @property
    def name(self) -> str:
        return f"{_VERBS[self.number]}-{self.hurts}"

    async def inject(self, live: Live, rng: random.Random) -> float:  # noqa: ARG002
        part = part_of(await live.wait_until(runs(self.hurts)), self.hurts)
        assert part is not None
        begin = trio.current_time()
        with suppress(ProcessLookupError):  # it has just ended by itself; another one is to come all the same
            os.kill(part["pid"], self.number)
        await live.wait_until(runs(self.hurts, not_as=part["pid"]))
        return trio.current_time() - begin


@frozen(slots=True)
class CutPublisher:
    """The publisher's connection is reset: what it had sent by then is all there is, unless it comes back.

    One that is resumable finds no way for so many seconds, from *away* to.
    """

    away: tuple[float, float] = (0.0, 0.0)
    name: str = "cut-publisher"
    hurts: str = "publisher"

    async def inject(self, live: Live, rng: random.Random) -> float | None:
        await _connected(live)
        begin, known = trio.current_time(), live.publisher.connections
        live.publisher.cut(rng.uniform(*self.away))
        if not live.publisher.returns:
            return None
        await live.wait_until(lambda _: live.publisher.connections > known)
        await _accepts_again(live)
        return trio.current_time() - begin


@frozen(slots=True)
class Silence:
    """The publisher sends nothing for 3 to 8 s, as from a canvas that stands still: that is no fault."""

    name: str = "silence"
    hurts: str = "publisher"

    async def inject(self, live: Live, rng: random.Random) -> float:
        seconds = rng.uniform(3, 8)
        live.publisher.fall_silent(seconds)
        await trio.sleep(seconds)
        return await _accepts_again(live)


@frozen(slots=True)
class BlackHole:
    """Every packet of the publisher's is dropped, and nobody told; *heals* after so many seconds, or never.

    One that is *found* is longer than the publisher's pings take, and makes it connect again.
    """

    heals: bool
    seconds: tuple[float, float] = (2, 5)
    found: bool = False
    name: str = "black-hole"
    hurts: str = "publisher"

    async def inject(self, live: Live, rng: random.Random) -> float | None:
        assert live.network is not None
        known = live.publisher.connections
        with live.network.black_hole():
            if not self.heals:
                await live.wait_ended()
                return None
            await trio.sleep(rng.uniform(*self.seconds))
        begin = trio.current_time()
        if self.found:
            await live.wait_until(lambda _: live.publisher.connections > known)
        await _accepts_again(live)
        return trio.current_time() - begin


@frozen(slots=True)
class FullDisk:
    """The disk has *leave* bytes left; *heals* after a while, or only once the session has ended."""

    leave: int
    heals: bool
    name: str = "full-disk"
    hurts: str = "disk"

    async def inject(self, live: Live, rng: random.Random) -> float | None:
        assert live.disk is not None
        with live.disk.full(leave=self.leave):
            if not self.heals:
                await live.wait_ended()
                return None
            await trio.sleep(rng.uniform(2, 5))
        begin = trio.current_time()
        await live.wait_until(
            lambda status: all(
                sink["state"] == "running" for sink in status["sinks"] if sink["name"] != "raw"
            )
        )
        return trio.current_time() - begin


@frozen(slots=True)
class FrozenServer:
    """The RTMP server reads nothing any more, with every connection open, for so long: *seconds* from, to."""

    seconds: tuple[float, float]
    name: str = "frozen-server"
    hurts: str = "rtmp"

    async def inject(self, live: Live, rng: random.Random) -> float:
        await live.wait_until(runs("rtmp"))
        live.server.freeze()
        try:
            await trio.sleep(rng.uniform(*self.seconds))
        finally:
            live.server.thaw()
        return await _sends_again(live)


@frozen(slots=True)
class ShutGate:
    """Nothing fits on the way to the RTMP server any more, until its writer gives up: *cause* says why."""

    cause: str
    name: str = "frozen-server-timeout"
    hurts: str = "rtmp"

    async def inject(self, live: Live, rng: random.Random) -> float:  # noqa: ARG002
        assert live.gate is not None
        before = part_of(await live.wait_until(runs("rtmp")), "rtmp")
        assert before is not None
        live.gate.shut()
        try:
            status = await live.wait_until(
                lambda status: (part_of(status, "rtmp") or before)["restarts"] > before["restarts"]
            )
        finally:
            live.gate.open()
        begin = trio.current_time()
        told = (part_of(status, "rtmp") or before)["last_error"]
        if self.cause not in told:
            live.note("recovery", f"given up for another cause than {self.cause!r}: {told}")
        await live.wait_until(runs("rtmp", not_as=before["pid"]))
        return trio.current_time() - begin


@frozen(slots=True)
class Restart:
    """The daemon dies of *number*, and is started again in the same place.

    With *stop_children* its FFmpegs are stopped first, and stay until the next life ends them. With *twice*
    it is killed once more within 2 s of its start, ready or not. Where the publisher does not come
    back, this returns when the session has ended.
    """

    number: signal.Signals
    stop_children: bool = False
    twice: bool = False
    hurts: str = "daemon"

    @property
    def name(self) -> str:
        return f"{_VERBS[self.number]}-daemon"

    async def inject(self, live: Live, rng: random.Random) -> float | None:
        await _accepts_again(live)
        await trio.sleep(rng.uniform(0, SLICE))
        told = len(live.publisher.closed)
        counted = (await live.status())["chunks"]
        begin = trio.current_time()
        await live.end_life(self.number, counted, stop_children=self.stop_children)
        if self.twice:
            await trio.to_thread.run_sync(live.daemon.start_again)
            await trio.sleep(rng.uniform(0, 2))
            await live.end_life(self.number)
        await live.begin_life()
        if not live.publisher.returns:
            await live.wait_ended()
            return None
        await live.wait_until(_encodes)
        took = trio.current_time() - begin
        await _accepts_again(live)
        live.look()
        if self.number is signal.SIGTERM and (codes := live.publisher.closed[told:]) != [_RECONNECT]:
            live.note("state", f"the publisher was told {codes}, not to reconnect")
        return took


@frozen(slots=True)
class ClosedPort:
    """The RTMP server is gone, its port closed, for a few seconds."""

    name: str = "closed-port"
    hurts: str = "rtmp"

    async def inject(self, live: Live, rng: random.Random) -> float:
        status = await live.wait_until(runs("rtmp"))
        part = part_of(status, "rtmp")
        assert part is not None
        await trio.to_thread.run_sync(live.server.stop)
        await trio.sleep(rng.uniform(1, 6))
        await trio.to_thread.run_sync(live.server.start)
        begin = trio.current_time()
        await live.wait_until(runs("rtmp", not_as=part["pid"]))
        return trio.current_time() - begin


async def _connected(live: Live) -> None:
    """There is a connection to be hurt."""
    await live.wait_until(lambda status: status["publisher"] is not None)


def _encodes(status: Status) -> bool:
    """The encoder of this life has made a frame."""
    encoder = status["encoder"]
    return encoder is not None and encoder["state"] == "running" and encoder["frames"] > 0


async def _accepts_again(live: Live) -> float:
    """Seconds until one more chunk was accepted."""
    begin = trio.current_time()
    before = (await live.status())["chunks"]
    await live.wait_until(lambda status: status["chunks"] > before)
    return trio.current_time() - begin


async def _sends_again(live: Live) -> float:
    """Seconds until more frames were handed to the RTMP writer."""
    begin = trio.current_time()
    before = part_of(await live.status(), "rtmp")
    assert before is not None

    def more(status: Status) -> bool:
        now = part_of(status, "rtmp")
        return now is not None and now["state"] == "running" and now["sent_frames"] > before["sent_frames"]

    await live.wait_until(more)
    return trio.current_time() - begin
