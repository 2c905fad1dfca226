"""The supervisor: delays, states, counts and causes, on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure, UnsupportedMedia
from ingestd.live.supervisor import Health, State, Supervisor

CONFIG = SupervisorConfig()
Progress = Callable[[], None]


@pytest.fixture
def health() -> Health:
    return Health("cam", "sink")


async def test_three_delays_then_failed_with_the_cause(autojump_clock: MockClock, health: Health) -> None:
    """After 1 s, 2 s and 3 s it gives up, with the last cause."""
    starts: list[tuple[float, State]] = []
    begun = trio.current_time()

    async def attempt(progress: Progress) -> None:
        starts.append((trio.current_time() - begun, health.state))
        health.pid = 1
        raise AttemptFailed(f"cause {len(starts)}")

    with pytest.raises(FatalFailure, match="cause 4"):
        await Supervisor(CONFIG, health).run(attempt)
    assert [round(at, 3) for at, _ in starts] == [0, 1, 3, 6]
    assert {state for _, state in starts} == {State.STARTING}
    assert (health.state, health.attempts, health.restarts) == (State.FAILED, 4, 3)
    assert health.last_error == "cause 4"
    assert health.pid is None


async def test_states_of_a_restart(autojump_clock: MockClock, health: Health) -> None:
    """starting → running → backing_off (with the cause, without a pid) → running → stopped."""

    async def attempt(progress: Progress) -> None:
        health.pid = 42
        assert health.state is State.STARTING
        await trio.sleep(0.5)
        progress()
        assert health.state is State.RUNNING
        await trio.sleep(0.5)
        if health.attempts == 1:
            raise AttemptFailed("killed by SIGKILL")

    async def observe() -> None:
        await trio.sleep(1.5)
        assert (health.state, health.pid, health.last_error) == (
            State.BACKING_OFF,
            None,
            "killed by SIGKILL",
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observe)
        since = health.since
        await Supervisor(CONFIG, health).run(attempt)
    assert (health.state, health.attempts, health.pid) == (State.STOPPED, 2, None)
    assert health.last_error == "killed by SIGKILL"
    assert health.since >= since


async def test_healthy_after_resets_the_count(autojump_clock: MockClock, health: Health) -> None:
    """Twenty seconds of progress, and the delays begin at 1 s again."""
    starts: list[float] = []
    begun = trio.current_time()

    async def attempt(progress: Progress) -> None:
        starts.append(trio.current_time() - begun)
        if len(starts) == 6:
            return
        if len(starts) == 3:
            for _ in range(41):
                progress()
                await trio.sleep(0.5)
        raise AttemptFailed("broken")

    await Supervisor(CONFIG, health).run(attempt)
    delays = [round(after - before, 3) for before, after in itertools.pairwise(starts)]
    assert delays == [1, 2, 20.5 + 1, 2, 3]


async def test_time_without_progress_is_not_health(autojump_clock: MockClock, health: Health) -> None:
    """An attempt that moves for a moment and then stands still for a minute does not reset the count."""

    async def attempt(progress: Progress) -> None:
        progress()
        await trio.sleep(1)
        progress()
        await trio.sleep(60)
        raise AttemptFailed("stalled")

    with pytest.raises(FatalFailure):
        await Supervisor(CONFIG, health).run(attempt)
    assert health.attempts == 4


async def test_forever_keeps_trying(autojump_clock: MockClock, health: Health) -> None:
    """A network target is tried every 30 s after it has failed, and is failed until there is progress."""
    starts: list[tuple[float, State]] = []
    begun = trio.current_time()

    async def attempt(progress: Progress) -> None:
        starts.append((trio.current_time() - begun, health.state))
        if len(starts) < 7:
            raise AttemptFailed("connection refused")
        assert health.state is State.FAILED
        progress()
        assert health.state is State.RUNNING

    await Supervisor(CONFIG, health, forever=True).run(attempt)
    assert [round(at, 3) for at, _ in starts] == [0, 1, 3, 6, 36, 66, 96]
    assert [state for _, state in starts[4:]] == [State.FAILED] * 3
    assert health.state is State.STOPPED


async def test_forever_and_healthy_again_has_all_its_delays(
    autojump_clock: MockClock, health: Health
) -> None:
    """A target that failed for good, then worked for long, gets its quick restarts again."""
    starts: list[float] = []

    async def attempt(progress: Progress) -> None:
        starts.append(trio.current_time())
        if len(starts) == 5:
            for _ in range(30):
                progress()
                await trio.sleep(1)
        elif len(starts) == 7:
            return
        raise AttemptFailed("gone")

    await Supervisor(CONFIG, health, forever=True).run(attempt)
    assert starts[5] - starts[4] == pytest.approx(31)
    assert starts[6] - starts[5] == pytest.approx(2)


async def test_never_retried_where_the_configuration_says_so(
    autojump_clock: MockClock, health: Health
) -> None:
    """With retry_failed_every = 0 a network target that failed stays failed."""

    async def attempt(progress: Progress) -> None:
        raise AttemptFailed("connection refused")

    config = SupervisorConfig(retry_failed_every=0.0)
    with pytest.raises(FatalFailure, match="connection refused"):
        await Supervisor(config, health, forever=True).run(attempt)
    assert health.state is State.FAILED


@pytest.mark.parametrize("error", [FatalFailure("bad options"), UnsupportedMedia("no VP8 in FLV")])
async def test_what_no_retry_can_mend_is_final(
    autojump_clock: MockClock, health: Health, error: Exception
) -> None:
    """A fatal failure, or media that the sink cannot take, is not tried again, not even for ever."""

    async def attempt(progress: Progress) -> None:
        raise error

    with pytest.raises(FatalFailure, match=str(error)):
        await Supervisor(CONFIG, health, forever=True).run(attempt)
    assert (health.state, health.attempts, health.last_error) == (State.FAILED, 1, str(error))


@pytest.mark.parametrize(("fails", "left"), [(0, State.STOPPED), (1, State.STOPPED), (4, State.FAILED)])
async def test_cancellation(autojump_clock: MockClock, health: Health, fails: int, left: State) -> None:
    """Cancelled while it runs or waits it is stopped, not running for ever; what had failed stays failed."""
    cancelled = []

    async def attempt(progress: Progress) -> None:
        if health.attempts <= fails:
            raise AttemptFailed("broken")
        health.pid = 7
        progress()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(True)

    with trio.move_on_after(1000 if fails == 0 else 0.5 if fails == 1 else 10):
        await Supervisor(CONFIG, health, forever=True).run(attempt)
    assert health.state is left
    assert health.pid is None
    assert cancelled == ([True] if fails == 0 else [])


async def test_a_restart_that_is_asked_for(autojump_clock: MockClock, health: Health) -> None:
    """The attempt is cancelled, the next begins at once, and its failures are counted anew."""
    begins: list[float] = []
    cancelled = 0
    supervisor = Supervisor(CONFIG, health)
    begun = trio.current_time()

    async def attempt(progress: Progress) -> None:
        nonlocal cancelled
        begins.append(trio.current_time() - begun)
        progress()
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            cancelled += 1
            raise
        if len(begins) < 4:
            raise AttemptFailed("gone")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run, attempt)
        await trio.sleep(3)
        assert supervisor.restart()  # at 3 s, in the middle of an attempt
        await trio.sleep(10.5)
        assert supervisor.restart()  # at 13.5 s, in the wait after its failure at 13 s
        await trio.sleep(10.2)
    assert begins == pytest.approx([0, 3, 13.5, 24.5])
    assert (cancelled, health.state, health.restarts) == (1, State.STOPPED, 2)
    assert not supervisor.restart()
