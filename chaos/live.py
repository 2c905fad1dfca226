"""What a fault can lay hands on while a run is live."""

from __future__ import annotations

import os
import signal
from typing import Any

import trio
from attrs import define, field

from chaos.checks import Violation
from chaos.disk import Disk
from chaos.gate import Gate
from chaos.lives import Index, Left, Life, Numbered, listed_in
from chaos.network import Network
from chaos.publisher import Publisher, ResumablePublisher
from tests.support.daemon import Daemon
from tests.support.rtmps_server import RtmpServer

#: Far more than any recovery takes: beyond it something does not come back.
PATIENCE = 45.0
#: Seconds for FFmpegs that a dead daemon has left; those that are stopped stay.
_ORPHANS = 0.5


@define(eq=False)
class Live:
    """The daemon, its publisher and what surrounds them.

    *lives* are those of the daemon that have ended, *found* what was seen to be wrong meanwhile.
    """

    daemon: Daemon
    publisher: Publisher | ResumablePublisher
    server: RtmpServer
    found: list[Violation]
    network: Network | None = None
    disk: Disk | None = None
    gate: Gate | None = None
    lives: list[Life] = field(factory=list)
    left: Left = field(factory=Left)
    _index: Index | None = None
    _inherited: str | None = None  # the last segment that is listed since the last life is over

    async def status(self) -> dict[str, Any]:
        """The stream's status now."""
        return await self.wait_until(lambda _: True)

    async def wait_until(self, condition: Any) -> dict[str, Any]:
        """The first status of which *condition* is true; raises AssertionError if there is none in time."""
        return await self.daemon.wait_until(condition, PATIENCE)

    async def wait_ended(self) -> dict[str, Any]:
        """The status once the session has ended or failed."""
        return await self.daemon.wait_ended(2 * PATIENCE)

    def note(self, check: str, detail: str) -> None:
        """Something is wrong, and the run goes on."""
        self.found.append(Violation(check, detail))

    async def end_life(
        self, number: signal.Signals, counted: int = 0, *, stop_children: bool = False
    ) -> None:
        """Have the daemon die of *number*: of SIGKILL it alone, and at once; of SIGTERM in its own way.

        *counted* chunks it was last heard to have accepted. With *stop_children* its FFmpegs are stopped
        (SIGSTOP) when it dies, and so will not end by themselves.
        """
        self.look()
        pid = self.daemon.process.pid
        if number is signal.SIGKILL:
            os.kill(pid, signal.SIGSTOP)  # so that it starts no other child while we look
        self.left.hold(pid)
        if stop_children:
            self.left.signal(signal.SIGSTOP)
        listed = listed_in(self.daemon.playlist)
        if listed[-1:] == [self._inherited]:
            del listed[-1]
        if number is signal.SIGKILL:
            self.daemon.kill()
        elif await trio.to_thread.run_sync(self.daemon.stop) != 0:
            self.note("state", f"the daemon's exit code is {self.daemon.exit_code}")
        # What the publisher was told is in the journal, too.
        self.lives.append(self._life(max(counted, self.publisher.acknowledged), listed))
        with trio.move_on_after(_ORPHANS):
            while self.left.alive():  # noqa: ASYNC110  other processes
                await trio.sleep(0.01)
        self._inherited = next(reversed(listed_in(self.daemon.playlist)), None)

    async def begin_life(self) -> None:
        """Start the daemon again, and wait until it is ready: then nothing may be left of the last life."""
        await trio.to_thread.run_sync(self.daemon.start_again)
        await trio.to_thread.run_sync(self.daemon.wait_ready)
        for orphan in self.left.alive():
            self.note("processes", f"left by the last life: {orphan}")
        self.left.end()
        self.look()

    def last_life(self, counted: int) -> Life:
        """What the life under way has come to; its session may have removed its journal since `look`."""
        return self._life(counted, listed_in(self.daemon.playlist))

    def look(self) -> None:
        """Open the index of the session that is live."""
        index = Index.newest(self.daemon.state_dir)
        if self._index is not None:
            self._index.close()
        self._index = index

    def numbered(self) -> Numbered:
        """What the index of the session under way says."""
        assert self._index is not None, "nothing was accepted yet"
        return self._index.numbered()

    def close(self) -> None:
        """Leave nothing behind."""
        self.left.end()
        if self._index is not None:
            self._index.close()

    def _life(self, counted: int, listed: list[str]) -> Life:
        assert self._index is not None, "nothing was accepted yet"
        return Life(self._index.session, counted, self._index.accepted(), listed)
