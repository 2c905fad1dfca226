"""A call that is made again with its idempotency key gets the first one's answer."""

from __future__ import annotations

import pytest
import trio
from sqlalchemy import Connection, text

from ingestd.registry.database import Database
from ingestd.registry.idempotency import Answer, KeyReused, StillWorking, answer, claim, give_back, sweep

CREATE = ("token-1 POST /v1/streams", "key-1")


async def test_the_second_call_gets_the_first_one_s_answer(database: Database) -> None:
    """The same bytes; of another caller, or with another key, it is a call of its own."""
    assert await database.run(claim, *CREATE, b"{}", 1.0) is None
    await database.run(answer, *CREATE, 201, b'{"key": "hidden"}')
    assert await database.run(claim, *CREATE, b"{}", 2.0) == Answer(201, b'{"key": "hidden"}')
    assert await database.run(claim, "token-2 POST /v1/streams", "key-1", b"{}", 2.0) is None
    assert await database.run(claim, "token-1 POST /v1/streams", "key-2", b"{}", 2.0) is None


async def test_a_key_is_for_one_request(database: Database) -> None:
    await database.run(claim, *CREATE, b'{"a": 1}', 1.0)
    with pytest.raises(KeyReused, match="take a new one for each"):
        await database.run(claim, *CREATE, b'{"a": 2}', 1.0)


async def test_who_comes_too_early_is_told_so(database: Database) -> None:
    """Until the first call is answered, gives its key back, or has taken so long that it must be dead."""
    await database.run(claim, *CREATE, b"{}", 100.0)
    with pytest.raises(StillWorking):
        await database.run(claim, *CREATE, b"{}", 399.0)
    assert await database.run(claim, *CREATE, b"{}", 400.0) is None
    with pytest.raises(StillWorking):
        await database.run(claim, *CREATE, b"{}", 401.0)
    await database.run(give_back, *CREATE)
    assert await database.run(claim, *CREATE, b"{}", 402.0) is None
    await database.run(answer, *CREATE, 201, b"")
    await database.run(give_back, *CREATE)
    assert await database.run(claim, *CREATE, b"{}", 403.0) == Answer(201, b"")


async def test_a_clock_that_was_put_back_blocks_no_key(database: Database) -> None:
    """A claim from the future, by one that has died, is given to the next caller."""
    assert await database.run(claim, "scope", "key", b"r", 90_000.0) is None
    assert await database.run(claim, "scope", "key", b"r", 1000.0) is None
    with pytest.raises(StillWorking):
        await database.run(claim, "scope", "key", b"r", 1000.0)


async def test_of_calls_at_once_one_is_the_first(database: Database) -> None:
    first, early = [], []

    async def call() -> None:
        try:
            first.append(await database.run(claim, *CREATE, b"{}", 1.0))
        except StillWorking as error:
            early.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(call)
    assert first == [None]
    assert len(early) == 7


async def test_keys_and_answers_are_not_in_the_clear(database: Database) -> None:
    def everything(connection: Connection) -> str:
        return str(connection.execute(text("SELECT * FROM idempotency")).all())

    await database.run(claim, "scope", "hidden-key", b"hidden-request", 1.0)
    await database.run(answer, "scope", "hidden-key", 201, b"hidden-answer")
    assert "hidden" not in await database.read(everything)
    assert "hidden" not in repr(await database.run(claim, "scope", "hidden-key", b"hidden-request", 1.0))


async def test_old_keys_go(database: Database) -> None:
    await database.run(claim, *CREATE, b"{}", 1.0)
    assert await database.run(sweep, 1.0) == 0
    assert await database.run(sweep, 1.1) == 1
    assert await database.run(claim, *CREATE, b"other", 2.0) is None
