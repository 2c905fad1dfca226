"""What is stored comes back as it was, and is listed page by page."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from attrs import evolve, fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ingestd.registry.database import Database, NotStorable
from ingestd.registry.deliveries import (
    abandon_deliveries,
    add_deliveries,
    change_delivery,
    drop_deliveries,
    find_delivery,
    list_deliveries,
    pending_deliveries,
)
from ingestd.registry.directory import Directory, StreamTaken
from ingestd.registry.leftovers import (
    add_leftover,
    announce_leftover,
    change_leftover,
    dropping,
    due_leftovers,
    list_leftovers,
)
from ingestd.registry.migrations import migrate
from ingestd.registry.model import (
    Delivery,
    Leftover,
    MuxLink,
    Playback,
    RecordingRow,
    SessionRow,
    Stream,
    Target,
)
from ingestd.registry.paging import LARGEST, BadCursor, Page, decode_cursor, encode_cursor
from ingestd.registry.recordings import (
    drop_recordings,
    find_recording,
    keep_recordings,
    known_recordings,
    list_recordings,
    unlike,
)
from ingestd.registry.sessions import (
    LOST,
    drop_sessions,
    end_lost_sessions,
    find_session,
    keep_sessions,
    list_sessions,
)
from ingestd.registry.streams import (
    NoStream,
    StreamChanged,
    add_stream,
    all_streams,
    change_stream,
    drop_stream,
    keep_stream,
)
from tests.registry.tools import (
    SEALER,
    count_on_air,
    count_pending,
    delivery,
    find_stream,
    recording,
    session,
    stream,
)
from tests.support.postgres import Postgres

T = TypeVar("T")

words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)
names = st.text(string.ascii_lowercase + string.digits + "_-", min_size=1, max_size=64)
times = st.floats(0, 4e9)
counts = st.integers(0, 2**63 - 1)
made_targets = st.lists(
    st.builds(Target, sink=names, key=words, url=st.none() | words), max_size=4, unique_by=lambda t: t.sink
).map(tuple)
providers = st.sampled_from(["ingestd", "mux"])
policies = st.sampled_from(["public", "signed"])
made_playback = st.builds(Playback, id=words, provider=providers, policy=policies, url=st.none() | words)
labels = st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4)
made_streams = st.builds(
    Stream, name=names, pipeline=names, key_sha256=st.binary(min_size=32, max_size=32), created=times,
    updated=times, title=words, labels=labels, enabled=st.booleans(), declared=st.booleans(),
    targets=made_targets, playback=st.lists(made_playback, max_size=3).map(tuple),
    mux=st.none() | st.builds(MuxLink, stream_id=words, latency_mode=words, reconnect_window=times),
)  # fmt: skip
made_sessions = st.builds(
    SessionRow, id=names, stream=names, pipeline=names, state=words, started=times, ended=st.none() | times,
    cause=st.none() | words, chunks=counts, bytes=counts, frames=counts, gaps=counts, gap_seconds=times,
    updated=times,
)  # fmt: skip
made_recordings = st.builds(
    RecordingRow, id=names, stream=names, session=st.none() | names, sink=names, file=words, size=counts,
    changed=times, finished=st.booleans(),
)  # fmt: skip
made_deliveries = st.builds(
    Delivery, id=names, body=st.binary(max_size=50), created=times, next_attempt=times, endpoint=words,
    event_id=words, type=words, attempts=st.integers(0, 2**31 - 1), last_error=st.none() | words,
    last_status=st.none() | st.integers(100, 599), delivered_at=st.none() | times,
    state=st.sampled_from(["pending", "delivered", "failed"]),
)  # fmt: skip


def there_and_back(connection: Connection, row: object) -> object:
    """*row* as it is read again; nothing of it stays."""
    savepoint = connection.begin_nested()
    try:
        match row:
            case Stream():
                add_stream(connection, row, SEALER)
                assert all_streams(connection, SEALER) == [row]
                return find_stream(connection, row.name, SEALER)
            case SessionRow():
                keep_sessions(connection, [row])
                return find_session(connection, row.stream, row.id)
            case RecordingRow():
                keep_recordings(connection, [row])
                return find_recording(connection, row.id)
            case Delivery():
                add_deliveries(connection, [row])
                return find_delivery(connection, row.id)
            case _:
                raise TypeError
    finally:
        savepoint.rollback()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """For Hypothesis, which runs a test often: one that stays."""
    with ExitStack() as held:
        url = ""
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            url = held.enter_context(server.empty_database())
        database = Database(url, tmp_path_factory.mktemp("rows"))
        trio.run(database.open, migrate)
        yield database
        trio.run(database.close)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(made_streams | made_sessions | made_recordings | made_deliveries, max_size=8))
def test_what_is_stored_comes_back_as_it_was(migrated: Database, rows: list[object]) -> None:
    """Any text, any number, any time; streams with targets, labels, playback ids and a link to Mux."""
    with migrated._engine.begin() as connection:
        for row in rows:
            assert there_and_back(connection, row) == row


@pytest.mark.parametrize("bad", [{"cause": "\ud800"}, {"chunks": 2**63}])
async def test_what_cannot_be_stored_is_told(database: Database, bad: dict[str, Any]) -> None:
    """As an error of its own: trying again would not help. The value is not in it."""
    with pytest.raises(NotStorable, match="a value cannot be stored"):
        await database.run(keep_sessions, [session(), session(2, **bad)])
    assert (await database.read(list_sessions)).items == ()


# Streams


async def test_names_and_keys_are_taken_once(database: Database) -> None:
    await database.run(add_stream, stream("one"), SEALER)
    with pytest.raises(StreamTaken, match='"one" is there already'):
        await database.run(add_stream, stream("one", key_sha256=b"x"), SEALER)
    with pytest.raises(StreamTaken, match="has the same key"):
        await database.run(add_stream, evolve(stream("one"), name="two"), SEALER)
    await database.run(add_stream, stream("two"), SEALER)
    with pytest.raises(StreamTaken, match='the key that "two" was to have'):
        await database.run(change_stream, evolve(stream("one"), name="two"), SEALER)
    assert [each.name for each in await database.read(all_streams, SEALER)] == ["one", "two"]


async def test_a_stream_is_changed_as_a_whole(database: Database) -> None:
    """Its targets, too; only if nobody has changed it since, where that is asked for."""
    first = stream(targets=(Target(sink="a", key="1"), Target(sink="b", key="2")))
    await database.run(add_stream, first, SEALER)
    second = stream(targets=(Target(sink="b", key="3"),), enabled=False, updated=2.0)
    await database.run(partial(change_stream, was=1.0), second, SEALER)
    assert await database.read(find_stream, "booth", SEALER) == second
    with pytest.raises(StreamChanged, match="by somebody else"):
        await database.run(partial(change_stream, was=1.0), first, SEALER)
    with pytest.raises(NoStream, match='no stream "other"'):
        await database.run(change_stream, stream("other"), SEALER)
    assert await database.read(find_stream, "booth", SEALER) == second


async def test_a_declared_stream_is_kept_whether_it_is_there_or_not(database: Database) -> None:
    for enabled in (True, False):
        kept = stream(declared=True, enabled=enabled, targets=(Target(sink="a", key=str(enabled)),))
        await database.run(keep_stream, kept, SEALER)
        assert await database.read(find_stream, "booth", SEALER) == kept


async def test_a_dropped_stream_takes_its_targets_along(database: Database) -> None:
    """What it has done stays: sessions and recordings."""
    await database.run(add_stream, stream(targets=(Target(sink="a", key="1"),)), SEALER)
    await database.run(keep_sessions, [session()])
    assert await database.run(drop_stream, "booth")
    assert not await database.run(drop_stream, "booth")
    assert await database.read(count, "targets") == 0
    assert await database.read(count, "sessions") == 1


def count(connection: Connection, table: str) -> int:
    found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
    return found


# Sessions


async def test_a_session_that_has_ended_is_not_taken_back_in_time(database: Database) -> None:
    """A row that comes late, from a file for instance, does not put it on air; one that is newer does."""
    ended = session(state="ended", ended=5.0, updated=5.0)
    await database.run(keep_sessions, [ended])
    await database.run(keep_sessions, [session(updated=4.9)])
    assert await database.read(find_session, "booth", "s1") == ended
    await database.run(keep_sessions, [session(updated=5.0)])
    assert await database.read(find_session, "booth", "s1") == session(updated=5.0)


async def test_a_clock_that_was_put_back_keeps_no_session_on_air(database: Database) -> None:
    await database.run(keep_sessions, [session(updated=5000.0)])
    for row in (session(chunks=9, updated=1400.0), session(state="ended", ended=1500.0, updated=1500.0)):
        await database.run(keep_sessions, [row])
        assert await database.read(find_session, "booth", "s1") == row


async def test_two_streams_may_begin_a_session_at_the_same_moment(database: Database) -> None:
    """Their sessions have the same id, and are two."""
    both = [session(1, "booth"), session(1, "stage")]
    await database.run(keep_sessions, both)
    assert set((await database.read(list_sessions)).items) == set(both)


async def test_no_session_stays_on_air_that_does_not_run(database: Database) -> None:
    """It ended when it was last heard of; those that run, and those that ended, stay as they are."""
    over = session(1, state="ended", ended=3.0, cause="x")
    await database.run(keep_sessions, [over, session(2), session(2, "stage"), session(3, updated=9.0)])
    assert await database.run(end_lost_sessions, {("stage", "s2"), ("booth", "s2")}, 20.0) == 1
    assert await database.run(end_lost_sessions, {("stage", "s2"), ("booth", "s2")}, 20.0) == 0
    assert await database.read(count_on_air) == 2
    lost = session(3, state="failed", ended=9.0, cause=LOST, updated=20.0)
    assert await database.read(find_session, "booth", "s3") == lost
    assert await database.read(find_session, "booth", "s1") == over


async def test_sessions_are_listed_by_what_is_asked_for(database: Database) -> None:
    rows = [session(1, state="ended", ended=2.0), session(2), session(3, "stage", state="failed", ended=4.0)]
    await database.run(keep_sessions, rows)
    one, two, three = rows
    for filters, expected in (
        ({}, (three, two, one)),
        ({"stream": "booth"}, (two, one)),
        ({"on_air": True}, (two,)),
        ({"on_air": False}, (three, one)),
        ({"stream": "nobody"}, ()),
    ):
        query: Callable[[Connection], Page[SessionRow]] = partial(list_sessions, **filters)
        assert await database.read(query) == Page(expected, None), filters
    assert await database.run(drop_sessions, 4.0) == 1
    assert (await database.read(list_sessions)).items == (three, two)


# Recordings


async def test_recordings_are_known_by_their_ids(database: Database) -> None:
    rows = {row.id: row for row in (recording(n) for n in (1, 2, 3))}
    await database.run(keep_recordings, rows.values())
    assert await database.read(known_recordings) == rows
    one, *others = rows
    assert await database.run(drop_recordings, [*others, "x"]) == 2
    assert await database.read(known_recordings) == {one: rows[one]}


def test_rows_are_made_to_agree_with_the_files() -> None:
    """What has changed is stored, for whom it was; rows without a file go, but not of a live session."""
    known = {row.id: row for row in (recording(n) for n in (1, 2, 3, 4))}
    found = [recording(1, session=None), recording(2, session=None, size=9), recording(5, session=None)]
    changed, gone = unlike(known, found, {("booth", "s4")})
    assert changed == [recording(2, size=9), recording(5, session=None)]
    assert gone == [recording(3).id]


async def test_recordings_are_listed_by_what_is_asked_for(database: Database) -> None:
    one, two, three = rows = [recording(1), recording(2, finished=False), recording(3, "stage", session=None)]
    await database.run(keep_recordings, rows)
    for filters, expected in (
        ({"stream": "booth"}, (two, one)),
        ({"session": "s1"}, (one,)),
        ({"finished": True}, (three, one)),
    ):
        query: Callable[[Connection], Page[RecordingRow]] = partial(list_recordings, **filters)
        assert await database.read(query) == Page(expected, None), filters


# What is to go at Mux


async def test_what_is_to_go_at_mux_is_known_until_it_is_gone(database: Database) -> None:
    """Those that are due come first; a change of one that is gone brings it back to nobody."""
    made = [
        Leftover(id=f"p{n}", stream="booth", since=float(n), next_attempt=float(10 - n)) for n in range(4)
    ]
    for each in made:
        await database.run(announce_leftover, each)
    zero, one, two, three = made
    assert await database.read(list_leftovers) == made
    assert await database.read(due_leftovers, 8.0, 100.0) == [three, two]
    assert await database.read(due_leftovers, 8.0, 1.5) == [three, two, zero]
    tried = evolve(one, stream_id="L1", attempts=1, next_attempt=99.0, last_error="no")
    await database.run(change_leftover, tried)
    await database.run(dropping("p0"))
    await database.run(change_leftover, evolve(zero, attempts=9))
    assert await database.read(list_leftovers) == [tried, two, three]
    await database.run(add_leftover, one)
    assert await database.read(list_leftovers) == [one, two, three]


# Deliveries


async def test_an_event_is_delivered_once_to_each_endpoint(database: Database) -> None:
    twice = [delivery(1), delivery(1, "other"), evolve(delivery(1), id="again")]
    assert await database.run(add_deliveries, twice) == 2
    assert await database.run(add_deliveries, [delivery(1)]) == 0
    assert await database.read(count_pending) == 2


async def test_what_waits_comes_oldest_first(database: Database) -> None:
    """By endpoint, whenever its next attempt is."""
    other, sooner = delivery(1, "other"), delivery(9, next_attempt=0.5)
    rows = [sooner, delivery(3), delivery(2), delivery(1, state="failed"), other]
    await database.run(add_deliveries, rows)
    assert await database.read(pending_deliveries, "app", 10) == [delivery(2), delivery(3), sooner]
    assert await database.read(pending_deliveries, "app", 2) == [delivery(2), delivery(3)]
    done = delivery(2, state="delivered", attempts=1, last_status=204, delivered_at=8.5)
    assert await database.run(change_delivery, done)
    assert not await database.run(change_delivery, delivery(77))
    assert await database.read(pending_deliveries, "app", 10) == [delivery(3), sooner]
    assert await database.read(find_delivery, done.id) == done
    newest = await database.read(partial(list_deliveries, state="delivered", endpoint="app", limit=5))
    assert newest.items == (done,)


async def test_what_waits_for_endpoints_that_are_gone_is_given_up(database: Database) -> None:
    """With the reason; where there is no endpoint any more, all of it."""
    await database.run(
        add_deliveries, [delivery(1), delivery(2, "gone"), delivery(3, "gone", state="delivered")]
    )
    assert await database.run(abandon_deliveries, ["app"], "no more") == 1
    given_up = await database.read(find_delivery, "gone-2")
    assert given_up == delivery(2, "gone", state="failed", last_error="no more")
    assert await database.run(abandon_deliveries, [], "no more") == 1
    assert await database.read(count_pending) == 0


async def test_old_deliveries_go_and_those_that_wait_stay(database: Database) -> None:
    await database.run(add_deliveries, [delivery(n, state="failed") for n in range(10)] + [delivery(90)])
    assert await database.read(count_pending) == 1
    assert await database.run(drop_deliveries, 4.0) == 4
    assert await database.run(partial(drop_deliveries, keep=2), 0.0) == 4
    left = await database.read(list_deliveries)
    assert [each.id for each in left.items] == ["app-90", "app-9", "app-8"]


# Pages


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
async def test_pages_have_each_row_once(database: Database, size: int) -> None:
    """Also where many are of one time, and others come and go meanwhile."""
    rows = [session(n, started=float(n % 3), stream=f"s{n % 2}") for n in range(20)]
    await database.run(keep_sessions, rows)
    seen: list[SessionRow] = []
    cursor = None
    while True:
        page = await database.read(partial(list_sessions, limit=size, cursor=cursor))
        assert len(page.items) <= size
        seen += page.items
        await database.run(keep_sessions, [session(100 + len(seen), started=50.0)])
        cursor = page.next
        if cursor is None:
            break
    assert sorted(seen, key=lambda row: row.id) == sorted(rows, key=lambda row: row.id)
    assert [row.started for row in seen] == sorted((row.started for row in rows), reverse=True)


async def test_a_page_has_its_limits(database: Database) -> None:
    """At least one row, at most as many as one page may hold."""
    await database.run(keep_sessions, [session(n) for n in range(LARGEST + 1)])
    for asked, given_ in ((0, 1), (-5, 1), (LARGEST, LARGEST), (LARGEST + 1, LARGEST), (10**9, LARGEST)):
        assert len((await database.read(partial(list_sessions, limit=asked))).items) == given_


BAD = ["", "x", "ü", "W10", "e30", "!", "A" * 3000, encode_cursor([1, "a", "b"]), encode_cursor([1.0, "a"])]
BAD += [encode_cursor([1.0, "a", "\0"]), encode_cursor([1.0, "a", "\ud800"]), encode_cursor(["1", "a", "b"])]
BAD += [encode_cursor([float("nan"), "a", "b"]), encode_cursor([float("inf"), "a", "b"]), "W1tbW1tbW1tbW1tb"]


@pytest.mark.parametrize("cursor", BAD)
async def test_a_cursor_of_somebody_s_own_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(BadCursor, match="begin without one"):
        await database.read(partial(list_sessions, cursor=cursor))


@given(st.text(max_size=30))
def test_any_text_as_a_cursor_is_an_answer(cursor: str) -> None:
    try:
        (name,) = decode_cursor(cursor, str)
    except BadCursor:
        return
    assert decode_cursor(encode_cursor([name]), str) == [name]


def test_the_directory_is_listed_in_pages_too(tmp_path: Path) -> None:
    directory = Directory()
    for number in range(5):
        directory.put(stream(f"s{number}", enabled=number != 2))
    first = directory.page(2, None, lambda each: each.enabled)
    assert [each.name for each in first.items] == ["s0", "s1"]
    directory.put(stream("s11"))
    second = directory.page(2, first.next, lambda each: each.enabled)
    assert [each.name for each in second.items] == ["s11", "s3"]
    last = directory.page(2, second.next, lambda each: each.enabled)
    assert ([each.name for each in last.items], last.next) == (["s4"], None)
    with pytest.raises(BadCursor):
        directory.page(2, "x")


def test_every_field_is_stored() -> None:
    """The tables have a column for each field of the model, and no others."""
    from ingestd.registry import tables

    for kind, table in (
        (SessionRow, tables.sessions), (RecordingRow, tables.recordings), (Delivery, tables.deliveries),
    ):  # fmt: skip
        assert {column.name for column in table.c} == {field.name for field in fields(kind)}
    assert {column.name for column in tables.streams.c} | {"targets"} == {f.name for f in fields(Stream)}
