"""One endpoint on the virtual clock: attempts, waits, order, and what it is told in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field
from structlog.testing import capture_logs
from trio.testing import MockClock

from ingestd.config import Notify
from ingestd.notify.endpoint import Endpoint
from ingestd.notify.errors import EndpointBusy, Undelivered
from ingestd.notify.post import Answer
from ingestd.notify.schedule import Schedule
from ingestd.registry.model import Delivery
from tests.notify.tools import delivery, secret_file, webhook

DAY = 86_400.0


@define(eq=False)
class Line:
    """What an endpoint's requests come to: *answer* decides; *sent* are the times and ids."""

    answer: Callable[[str, int], Any] = lambda _id, _number: Answer(204)
    takes: float = 0.0
    sent: list[tuple[float, str]] = field(factory=list)
    under_way: int = 0
    most: int = 0

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> Answer:
        identity = headers["webhook-id"]
        self.sent.append((trio.current_time(), identity))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await trio.sleep(self.takes)
        self.under_way -= 1
        answer = self.answer(identity, len(self.sent))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Answer)
        return answer

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.sent]


@define(eq=False)
class Bench:
    endpoint: Endpoint
    line: Line
    changes: list[Delivery]

    def put(self, *deliveries: Delivery) -> None:
        for each in deliveries:
            assert self.endpoint.reserve()
            self.endpoint.put(each)

    @property
    def last(self) -> dict[str, Delivery]:
        """How far each delivery is."""
        return {change.event_id[-1]: change for change in self.changes}


@asynccontextmanager
async def running(directory: Path, line: Line, config: Notify | None = None) -> AsyncIterator[Bench]:
    """An endpoint for the time of the block; its clock is Trio's, and nothing is left to chance."""
    changes: list[Delivery] = []
    config = config or Notify()
    endpoint = Endpoint(webhook(directory), config, line, changes.append, trio.current_time)
    endpoint.schedule = Schedule(config, random=lambda: 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.run)
        yield Bench(endpoint, line, changes)
        nursery.cancel_scope.cancel()


async def test_what_is_delivered(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One attempt, one change: delivered, when and with which status."""
    async with running(tmp_path, Line(takes=2.0)) as bench:
        bench.put(delivery())
        await trio.sleep(5)
        expected = evolve(delivery(), attempts=1, state="delivered", last_status=204, delivered_at=2.0)
        assert bench.changes == [expected]
        assert (bench.endpoint.delivered, bench.endpoint.pending, bench.endpoint.idle) == (1, 0, True)


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(404), Answer(302), Answer(101), Undelivered("refused")]
)
async def test_a_day_of_failures(tmp_path: Path, autojump_clock: MockClock, answer: object) -> None:
    """Tried at 0, 5 s, 35 s, 155 s … and when the day is over; then it has failed, which is told once."""
    with capture_logs() as logs:
        async with running(tmp_path, Line(lambda _id, _number: answer)) as bench:
            bench.put(delivery())
            await trio.sleep(2 * DAY)
            assert bench.line.times[:7] == [0, 5, 35, 155, 755, 2555, 6155]
            assert bench.line.times[-1] == DAY
            assert len(bench.line.times) == 30
            last = bench.changes[-1]
            assert (last.state, last.attempts, bench.endpoint.failed) == ("failed", 30, 1)
            assert [change.state for change in bench.changes[:-1]] == ["pending"] * 29
            assert [change.next_attempt for change in bench.changes[:2]] == [5, 35]
            assert bench.endpoint.failing_since == 0
    events = [log["event"] for log in logs if log["log_level"] != "debug"]
    assert events == ["webhook_failing", "webhook_given_up"]


async def test_it_recovers(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Two failures, then it works: told once each."""
    line = Line(lambda _id, number: Answer(503) if number < 3 else Answer(200))
    with capture_logs() as logs:
        async with running(tmp_path, line) as bench:
            bench.put(delivery())
            await trio.sleep(100)
            assert bench.line.times == [0, 5, 35]
            assert (bench.changes[-1].state, bench.changes[-1].last_error) == ("delivered", None)
            assert (bench.endpoint.failing_since, bench.endpoint.last_error) == (None, None)
    events = [log["event"] for log in logs if log["log_level"] != "debug"]
    assert events == ["webhook_failing", "webhook_recovered"]


async def test_gone(tmp_path: Path, autojump_clock: MockClock) -> None:
    """410: this event is not sent to it again; the next one is."""
    line = Line(lambda identity, _number: Answer(410) if identity.endswith("1") else Answer(204))
    async with running(tmp_path, line) as bench:
        bench.put(delivery(1), delivery(2))
        await trio.sleep(DAY)
        assert len(bench.line.sent) == 2
        assert {key: value.state for key, value in bench.last.items()} == {"1": "failed", "2": "delivered"}
        assert bench.last["1"].last_error == "answered 410: it does not want this event any more"


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_it_asks_for_time(tmp_path: Path, autojump_clock: MockClock, status: int) -> None:
    """Retry-After, with whatever status."""
    line = Line(lambda _id, number: Answer(status, 77.0) if number == 1 else Answer(204))
    async with running(tmp_path, line) as bench:
        bench.put(delivery())
        await trio.sleep(DAY)
        assert bench.line.times == [0, 77]


async def test_a_redirect_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path, Line(lambda _id, _number: Answer(301))) as bench:
        bench.put(delivery())
        await trio.sleep(1)
        assert bench.endpoint.last_error == (
            "answered 301: redirects are not followed; expected 2xx, so give the final URL"
        )


async def test_secrets_are_read_for_each_attempt(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One that cannot be read is a failure like others, and mended without a restart."""
    async with running(tmp_path, Line()) as bench:
        (tmp_path / "secret").unlink()
        bench.put(delivery())
        await trio.sleep(1)
        assert bench.line.sent == []
        assert "No such file" in (bench.endpoint.last_error or "")
        secret_file(tmp_path)
        await trio.sleep(10)
        assert bench.last["1"].state == "delivered"


async def test_a_stream_s_events_keep_their_order(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While the first is tried again the next of its stream wait; those of another do not."""
    line = Line(lambda identity, _: Answer(500 if identity[-1] == "1" and trio.current_time() < 5 else 204))
    async with running(tmp_path, line) as bench:
        bench.put(delivery(1), delivery(2), delivery(3, stream="other"))
        await trio.sleep(100)
        sent = [(at, identity[-1]) for at, identity in bench.line.sent]
        assert sorted(sent[:2]) == [(0, "1"), (0, "3")]
        assert sent[2:] == [(5, "1"), (5, "2")]


async def test_what_nobody_can_digest_holds_up_little(tmp_path: Path, autojump_clock: MockClock) -> None:
    """After its fourth attempt the next ones pass; it goes on until it has failed."""
    line = Line(lambda identity, _number: Answer(500) if identity.endswith("1") else Answer(204))
    async with running(tmp_path, line) as bench:
        bench.put(delivery(1), delivery(2), delivery(3))
        await trio.sleep(2 * DAY)
        assert [(at, identity[-1]) for at, identity in bench.line.sent[:7]] == [
            (0, "1"), (5, "1"), (35, "1"), (155, "1"), (155, "2"), (155, "3"), (755, "1")
        ]  # fmt: skip
        assert {key: value.state for key, value in bench.last.items()} == {
            "1": "failed", "2": "delivered", "3": "delivered"
        }  # fmt: skip


async def test_requests_at_a_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    """As many as `concurrency` says, whatever waits."""
    async with running(tmp_path, Line(takes=1.0), Notify(concurrency=3)) as bench:
        bench.put(*(delivery(number, stream=f"s{number}") for number in range(1, 10)))
        await trio.sleep(3.5)
        assert (bench.line.most, bench.endpoint.delivered) == (3, 9)


async def test_one_that_waits_for_its_time_takes_no_place(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Only requests under way do."""
    line = Line(lambda identity, _number: Answer(500) if identity < "evt_r_00000009" else Answer(204))
    async with running(tmp_path, line, Notify(concurrency=1)) as bench:
        bench.put(*(delivery(number, stream=f"s{number}") for number in range(1, 10)))
        await trio.sleep(1)
        assert bench.last["9"].state == "delivered"


async def test_no_more_wait_than_may(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One more is dropped and counted, and told once until there is room again."""
    with capture_logs() as logs:
        async with running(tmp_path, Line(takes=1.0), Notify(max_pending=10)) as bench:
            bench.put(*(delivery(number) for number in range(10, 20)))
            assert not bench.endpoint.reserve()
            assert not bench.endpoint.reserve()
            assert (bench.endpoint.pending, bench.endpoint.dropped) == (10, 2)
            with pytest.raises(EndpointBusy, match='10 events wait for webhook "app"'):
                bench.endpoint.require_room()
            await trio.sleep(20)
            bench.put(delivery(20))
            assert bench.endpoint.dropped == 2
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["webhook_full"]


async def test_once_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One that waits is sent at once; one that is over gets a day of its own."""
    line = Line(lambda _id, _number: Answer(500))
    async with running(tmp_path, line) as bench:
        bench.put(delivery())
        await trio.sleep(1)
        bench.endpoint.again(bench.last["1"])
        await trio.sleep(1)
        assert bench.line.times == [0, 1]
        await trio.sleep(2 * DAY)
        assert bench.last["1"].state == "failed"
        start = trio.current_time()
        bench.endpoint.again(evolve(bench.last["1"], state="pending", attempts=0, next_attempt=start))
        await trio.sleep(2 * DAY)
        assert bench.line.times[-1] == start + DAY


async def test_what_is_long_overdue_is_tried_once_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The daemon was away for longer than a day."""
    await trio.sleep(3 * DAY)
    async with running(tmp_path, Line(lambda _id, _number: Answer(500))) as bench:
        bench.endpoint.take_up(delivery(attempts=3, next_attempt=155.0))
        await trio.sleep(DAY)
        assert bench.line.times == [3 * DAY]
        assert bench.last["1"].state == "failed"


async def test_the_clock_is_set(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What became due because of that is tried within a minute."""
    shift = 0.0
    async with running(tmp_path, Line(lambda _id, number: Answer(500 if number == 1 else 200))) as bench:
        bench.endpoint.now = lambda: trio.current_time() + shift
        bench.put(delivery(attempts=5))
        await trio.sleep(10)
        shift = 3600.0
        await trio.sleep(60)
        assert bench.last["1"].state == "delivered"
