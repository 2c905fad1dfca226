"""The supervisor: runs attempts one after the other, with backoff, and says how it stands.

It owns delays and state; one attempt owns one process (`ingestd.live.child`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Literal

import structlog
import trio
from attrs import define, field

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure, UnsupportedMedia
from ingestd.events import Tell, silent

log = structlog.get_logger(__name__)


class State(StrEnum):
    """Of a sink or an encoder."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"
    FAILED = "failed"


@define(eq=False)
class Health:
    """What is known of one supervised child: state, since when (seconds since 1970), attempts, last cause.

    *tell* is told of each state as ``sink.failed``, for one whose *kind* is ``sink``.
    """

    stream: str
    name: str
    state: State = State.STARTING
    since: float = field(factory=time.time)
    attempts: int = 0
    restarts: int = 0
    pid: int | None = None
    last_error: str | None = None
    kind: Literal["sink", "encoder"] = "sink"
    tell: Tell = silent
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def wait_for(self, *states: State) -> None:
        """Wait until it is in one of *states*."""
        while self.state not in states:
            await self._changed.park()

    def enter(self, state: State) -> None:
        if state is not self.state:
            again = self.attempts > 1 and state is State.RUNNING
            self.state = state
            self.since = time.time()
            self.tell(
                f"{self.kind}.{'recovered' if again else state.value}",
                name=self.name, attempts=self.attempts, cause=None if again else self.last_error,
            )  # fmt: skip
            log.debug("child_state", stream=self.stream, child=self.name, state=state.value)
            self._changed.unpark_all()


#: One attempt: returns at the regular end, raises `AttemptFailed` (retry) or `FatalFailure` (do not).
#: It calls what it is given at its first progress, and at each after it.
Attempt = Callable[[Callable[[], None]], Awaitable[None]]


@define(eq=False)
class Supervisor:
    """Runs *attempt* until it ends well or has failed for good.

    After each failure it waits 1 s, 2 s, 3 s (`SupervisorConfig.backoff`); the failure after that
    is final. `healthy_after` seconds of progress reset the count. With *forever*, a final failure is
    followed by another try every `retry_failed_every` seconds.
    """

    config: SupervisorConfig
    health: Health
    forever: bool = False
    _failures: int = 0
    _progress_since: float | None = None
    _progressed: float = 0.0
    _attempt: trio.CancelScope | None = None

    async def run(self, attempt: Attempt) -> None:
        """Return at the attempt's regular end.

        Raises `FatalFailure` with the last cause when it has failed for good. On cancellation the
        attempt under way is cancelled (and ends its process).
        """
        try:
            done = False
            while not done:
                with trio.CancelScope() as self._attempt:
                    done = await self._one(attempt)
        except BaseException:
            self._attempt = None
            # Cancelled, most likely: nobody runs attempts any more. A failure stays one.
            if self.health.state is not State.FAILED:
                self.health.enter(State.STOPPED)
            raise
        self._attempt = None
        self.health.enter(State.STOPPED)

    def restart(self) -> bool:
        """End the attempt under way, or the wait for the next, which begins at once as if it were the first.

        False if there are no attempts any more.
        """
        if self._attempt is None:
            return False
        self._failures = 0
        log.info("child_restart_asked", stream=self.health.stream, child=self.health.name)
        self._attempt.cancel()
        return True

    async def _one(self, attempt: Attempt) -> bool:
        """One attempt, and the wait after it if it failed; True if it came to the regular end."""
        health = self.health
        health.attempts += 1
        self._progress_since, self._progressed = None, 0.0
        # After a final failure it stays `failed` until there is progress: trying is not yet mending.
        if health.state is not State.FAILED:
            health.enter(State.STARTING)
        try:
            await attempt(self._progress)
        except AttemptFailed as failure:
            cause = str(failure)
        except (FatalFailure, UnsupportedMedia) as failure:
            health.last_error = cause = str(failure)
            health.enter(State.FAILED)
            log.error("child_failed", stream=health.stream, child=health.name, cause=cause)  # noqa: TRY400
            raise FatalFailure(cause) from failure
        else:
            return True
        finally:
            health.pid = None
        await self._failed(cause)
        return False

    def _progress(self) -> None:
        now = trio.current_time()
        if self._progress_since is None:
            self._progress_since = now
            self.health.enter(State.RUNNING)
        self._progressed = now - self._progress_since
        if self._progressed >= self.config.healthy_after:
            self._failures = 0

    async def _failed(self, cause: str) -> None:
        """Note the failure and wait for the time of the next attempt, or raise the final `FatalFailure`."""
        health, config = self.health, self.config
        self._failures += 1
        health.last_error = cause
        if self._failures <= len(config.backoff):
            delay = config.backoff[self._failures - 1]
            health.enter(State.BACKING_OFF)
            health.restarts += 1
            log.warning(
                "child_restarting",
                stream=health.stream,
                child=health.name,
                attempt=self._failures,
                delay_s=delay,
                cause=cause,
            )
            await trio.sleep(delay)
            return
        if health.state is not State.FAILED:
            log.error("child_failed", stream=health.stream, child=health.name, cause=cause)
        health.enter(State.FAILED)
        if not (self.forever and config.retry_failed_every):
            raise FatalFailure(cause)
        await trio.sleep(config.retry_failed_every)
