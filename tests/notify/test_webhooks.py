"""From an event to endpoints and back: real SQLite, real sockets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from attrs import evolve
from structlog.testing import capture_logs

from ingestd.notify.errors import EndpointBusy, NoDelivery, NoEndpoint
from ingestd.notify.message import TEST
from ingestd.registry.database import Database, DatabaseUnavailable
from ingestd.registry.deliveries import add_deliveries, change_delivery, find_delivery
from ingestd.registry.model import Delivery
from tests.notify.tools import (
    QUICK,
    SECRET,
    Receiver,
    Reply,
    away,
    delivery,
    eventually,
    receiving,
    telling,
    until,
    webhook,
)
from tests.registry.tools import rows


async def stored(database: Database, identity: str) -> Delivery:
    found = await database.read(find_delivery, identity)
    assert found is not None
    return found


async def test_an_event_is_told(tmp_path: Path, database: Database) -> None:
    """Signed, with the event's time and data, to who wants it; the log has it."""
    async with receiving(receiver := Receiver()) as url, receiving(other := Receiver()) as other_url:
        one = webhook(tmp_path, url)
        two = webhook(tmp_path, other_url, name="other", events=("sink",))
        async with telling(database, one, two) as (told, events):
            event = events.tell("stream.live", "cam", session="s1", pipeline="hls", cause=None)
            events.tell("stream.connecting", "cam", session="s1")
            [request] = await receiver.wait_for(1)
            assert request.verified()["data"] == {
                "stream": "cam", "session": "s1", "pipeline": "hls", "cause": None
            }  # fmt: skip
            assert request.id == f"evt_{events.run}_00000001"
            assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
            [done] = await until(told, "delivered")
            assert (done.id, done.created) == (f"{request.id}.app", event.at)
            assert (done.attempts, done.last_status, done.body) == (1, 204, request.body)
    assert other.requests == []


async def test_it_is_in_the_outbox_before_it_is_sent(tmp_path: Path, database: Database, url: str) -> None:
    """The receiver looks: the row is there."""
    seen: list[str] = []

    def look(request: object) -> Reply:
        seen.extend(state for (state,) in rows(url, tmp_path, "SELECT state FROM deliveries"))
        return Reply()

    async with (
        receiving(receiver := Receiver(look)) as base,
        telling(database, webhook(tmp_path, base)) as (
            _,
            events,
        ),
    ):
        events.tell("stream.live", "cam")
        await receiver.wait_for(1)
    assert seen == ["pending"]


async def test_the_same_id_with_each_attempt(tmp_path: Path, database: Database) -> None:
    """And a signature of its own."""
    answers = iter([Reply(500), Reply(503), Reply(200)])
    async with (
        receiving(receiver := Receiver(lambda _request: next(answers))) as url,
        telling(database, webhook(tmp_path, url)) as (told, events),
    ):
        events.tell("stream.live", "cam")
        [done] = await until(told, "delivered")
        assert done.attempts == 3
        assert len(set(receiver.ids)) == 1
        assert {request.verified()["type"] for request in receiver.requests} == {"stream.live"}


async def test_a_slow_endpoint_holds_up_no_other(tmp_path: Path, database: Database) -> None:
    """Fifty events reach the fast one while the slow one has not answered the first."""
    async with (
        receiving(slow := Receiver(lambda _request: Reply(after=3600))) as slow_url,
        receiving(fast := Receiver()) as fast_url,
        telling(
            database, webhook(tmp_path, slow_url, name="slow"), webhook(tmp_path, fast_url, name="fast")
        ) as (told, events),
    ):
        for number in range(50):
            events.tell("stream.live", f"cam{number % 7}")
        await fast.wait_for(50)
        assert told.endpoints["slow"].delivered == 0
        assert len(slow.requests) <= QUICK.concurrency
        for stream in range(7):
            mine = [r.id for r in fast.requests if r.verified()["data"]["stream"] == f"cam{stream}"]
            assert mine == sorted(mine)


async def test_a_database_that_is_away(tmp_path: Path, database: Database) -> None:
    """Events wait in memory, at most `max_pending`; nothing is sent that is not written; then all goes on."""
    notify = evolve(QUICK, max_pending=10)
    async with (
        receiving(receiver := Receiver()) as url,
        telling(database, webhook(tmp_path, url), notify=notify) as (told, events),
    ):
        events.tell("stream.live", "cam")
        await until(told, "delivered")
        with capture_logs() as logs:
            async with away(database):
                for _ in range(13):
                    events.tell("stream.interrupted", "cam")
                await eventually(lambda: any(entry["event"] == "outbox_waiting" for entry in logs))
                endpoint = told.endpoints["app"]
                assert (endpoint.pending, endpoint.dropped) == (10, 3)
                with pytest.raises(EndpointBusy):
                    told.test("app")
                assert len(receiver.requests) == 1
        await until(told, "delivered", 11)
        assert endpoint.pending == 0
        assert receiver.ids[1:] == [f"evt_{events.run}_{number:08}" for number in range(2, 12)]


async def test_a_database_that_is_away_at_the_start(tmp_path: Path, database: Database) -> None:
    """What is told meanwhile comes after what the last daemon left."""
    await database.run(add_deliveries, [delivery(1)])
    async with receiving(receiver := Receiver()) as url:
        async with away(database), telling(database, webhook(tmp_path, url)) as (told, events):
            events.tell("stream.live", "cam")
            await trio.sleep(0.3)
            assert (receiver.requests, told.endpoints["app"].pending) == ([], 1)
        async with telling(database, webhook(tmp_path, url)):
            assert (await receiver.wait_for(1))[0].id == "evt_r_00000001"


async def test_what_was_delivered_is_written_later(tmp_path: Path, database: Database) -> None:
    """The database goes away between the attempt and its outcome: it is not sent again for that."""
    async with (
        receiving(receiver := Receiver(lambda _request: Reply(after=0.1))) as url,
        telling(database, webhook(tmp_path, url)) as (told, events),
    ):
        events.tell("stream.live", "cam")
        await receiver.wait_for(1)
        async with away(database):
            await eventually(lambda: told.endpoints["app"].delivered)
            await trio.sleep(0.3)
        await until(told, "delivered")
        assert len(receiver.requests) == 1


async def test_the_next_daemon_goes_on(tmp_path: Path, database: Database) -> None:
    """What was not delivered is sent by the next; what was is not."""
    async with receiving(receiver := Receiver(lambda _request: Reply(500))) as url:
        app = webhook(tmp_path, url)
        async with telling(database, app) as (told, events):
            receiver.reply = lambda r: Reply(204 if r.verified()["data"]["stream"] == "a" else 500)
            events.tell("stream.live", "a")
            events.tell("stream.live", "b")
            await until(told, "delivered")
            await told.drain(1)
        receiver.requests.clear()
        receiver.reply = lambda _request: Reply()
        async with telling(database, app) as (told, _):
            await receiver.wait_for(1)
            await until(told, "delivered", 2)
            assert [request.verified()["data"]["stream"] for request in receiver.requests] == ["b"]


async def test_an_endpoint_that_is_no_more(tmp_path: Path, database: Database) -> None:
    """What waits for one that ingestd.toml does not have any more is given up, and said to be."""
    gone = delivery(2, endpoint="gone", id="x", created=time.time())
    await database.run(add_deliveries, [delivery(1, created=time.time()), gone])
    with capture_logs() as logs:
        async with receiving(Receiver()) as url, telling(database, webhook(tmp_path, url)) as (told, _):
            await until(told, "delivered")
            assert (await stored(database, "x")).state == "failed"
            with pytest.raises(NoEndpoint, match='no webhook is called "gone"'):
                await told.redeliver("x")
    assert [log["deliveries"] for log in logs if log["event"] == "webhooks_abandoned"] == [1]


async def test_more_than_may_wait(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon with a larger limit left them: they are taken up one lot after the other."""
    monkeypatch.setattr("ingestd.notify.webhooks._RETENTION_EVERY", 0.05)
    await database.run(add_deliveries, [delivery(number, created=time.time()) for number in range(1, 26)])
    notify = evolve(QUICK, max_pending=10)
    async with (
        receiving(receiver := Receiver()) as url,
        telling(database, webhook(tmp_path, url), notify=notify) as (told, _),
    ):
        await until(told, "delivered", 25)
    assert sorted(receiver.ids) == sorted(set(receiver.ids))


async def test_the_log_of_deliveries(tmp_path: Path, database: Database) -> None:
    """By endpoint and state, page by page, the newest first."""
    now = time.time()  # older ones would go by their age
    await database.run(
        add_deliveries,
        [delivery(number, created=now + number, state="delivered") for number in range(1, 6)],
    )
    async with telling(database, webhook(tmp_path)) as (told, _):
        page = await told.deliveries(endpoint="app", state="delivered", limit=3)
        assert [each.event_id[-1] for each in page.items] == ["5", "4", "3"]
        page = await told.deliveries(endpoint="app", state="delivered", limit=3, cursor=page.next)
        assert ([each.event_id[-1] for each in page.items], page.next) == (["2", "1"], None)
        assert (await told.deliveries(endpoint="other")).items == ()
        assert (await told.deliveries(state="failed")).items == ()


async def test_deliveries_go_by_age(tmp_path: Path, database: Database) -> None:
    """After `keep_for`; what still waits stays, however old."""
    old = time.time() - 8 * 86_400
    rows = [delivery(1, created=old, state="delivered"), delivery(2, created=old, next_attempt=1e10)]
    await database.run(add_deliveries, [*rows, delivery(3, created=time.time(), state="failed")])
    async with telling(database, webhook(tmp_path)) as (told, _):
        with trio.fail_after(20):
            while len((await told.deliveries()).items) > 2:  # noqa: ASYNC110  only the database knows
                await trio.sleep(0.02)
        assert {each.event_id[-1] for each in (await told.deliveries()).items} == {"2", "3"}


async def test_once_more(tmp_path: Path, database: Database) -> None:
    """A delivery that is over goes again, with its own id and body; so does one that waits."""
    async with (
        receiving(receiver := Receiver()) as url,
        telling(database, webhook(tmp_path, url)) as (told, events),
    ):
        events.tell("stream.live", "cam")
        [done] = await until(told, "delivered")
        again = await told.redeliver(done.id)
        assert (again.state, again.attempts) == ("pending", 0)
        await receiver.wait_for(2)
        assert receiver.requests[0].body == receiver.requests[1].body
        assert len(set(receiver.ids)) == 1
        await until(told, "delivered")
        with pytest.raises(NoDelivery, match="no delivery has this id"):
            await told.redeliver("evt_nothing")


async def test_once_more_while_the_database_is_away(tmp_path: Path, database: Database) -> None:
    """It is refused, and nothing of it happens later."""
    async with (
        receiving(receiver := Receiver()) as url,
        telling(database, webhook(tmp_path, url)) as (told, events),
    ):
        events.tell("stream.live", "cam")
        [done] = await until(told, "delivered")
        async with away(database):
            with pytest.raises(DatabaseUnavailable):
                await told.redeliver(done.id)
        await told.drain(20)
        assert await stored(database, done.id) == done
        assert len(receiver.requests) == 1


async def test_one_that_waits_is_sent_at_once(tmp_path: Path, database: Database) -> None:
    notify = evolve(QUICK, backoff=(3600.0,))
    async with (
        receiving(receiver := Receiver(lambda _request: Reply(500))) as url,
        telling(database, webhook(tmp_path, url), notify=notify) as (told, events),
    ):
        events.tell("stream.live", "cam")
        await receiver.wait_for(1)
        receiver.reply = lambda _request: Reply()
        await eventually(lambda: told.endpoints["app"].last_error)
        await told.redeliver(f"{receiver.ids[0]}.app")
        await until(told, "delivered")


async def test_a_test(tmp_path: Path, database: Database) -> None:
    """Whatever events and streams the endpoint wants."""
    async with receiving(receiver := Receiver()) as url:
        app = webhook(tmp_path, url, events=("sink",), streams=("cam",))
        async with telling(database, app) as (told, _):
            sent = told.test("app")
            [request] = await receiver.wait_for(1)
            assert (request.id, sent.type) == (sent.event_id, TEST)
            assert request.verified()["data"] == {"endpoint": "app"}
            with pytest.raises(NoEndpoint):
                told.test("nobody")


async def test_a_write_that_may_have_been_made(tmp_path: Path, database: Database) -> None:
    """The connection broke while it was committed: to write it once more changes nothing."""
    async with (
        receiving(receiver := Receiver()) as url,
        telling(database, webhook(tmp_path, url)) as (told, _),
    ):
        sent = told.test("app")
        await until(told, "delivered")
        await database.run(add_deliveries, [sent])
        assert (await stored(database, sent.id)).state == "delivered"
        await database.run(change_delivery, await stored(database, sent.id))
        assert len(receiver.requests) == 1


async def test_the_last_events_are_told_at_the_end(tmp_path: Path, database: Database) -> None:
    """`drain` waits for them, not for an endpoint that does not answer."""
    async with (
        receiving(receiver := Receiver()) as url,
        receiving(Receiver(lambda _request: Reply(after=60))) as slow,
        telling(database, webhook(tmp_path, url)) as (told, events),
    ):
        events.tell("stream.ended", "cam")
        await told.drain(20)
        assert len(receiver.requests) == 1
        assert (await stored(database, f"{receiver.ids[0]}.app")).state == "delivered"
        async with telling(database, webhook(tmp_path, slow, name="slow")) as (others, more):
            more.tell("stream.ended", "cam")
            await others.drain(0.3)
            assert (await stored(database, f"evt_{more.run}_00000001.slow")).state == "pending"


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    """Neither the secret nor the path of the URL is in what may be logged."""
    shown = repr(webhook(tmp_path, "https://app.example.org/hooks/t0ken?key=k"))
    assert "t0ken" not in shown
    assert SECRET not in shown
