"""Idempotency keys: a call that is made again with the key of an earlier one gets that one's answer.

Of a key the database has a hash only. The answer, in which a publish key may be, is sealed with the key
itself (`ingestd.registry.seal.seal_answer`): only who has it can read the answer.
"""

from __future__ import annotations

import hashlib

from attrs import field, frozen
from sqlalchemy import ColumnElement, Connection, delete, select, update

from ingestd.errors import IngestdError
from ingestd.registry import tables
from ingestd.registry.seal import open_answer, seal_answer
from ingestd.registry.upsert import insert_new

_table = tables.idempotency


class KeyReused(IngestdError):
    """The idempotency key was used for another request: take a new one for each."""


class StillWorking(IngestdError):
    """The first call with this idempotency key has not been answered yet: try again a little later."""


@frozen(slots=True)
class Answer:
    """What the first call was answered."""

    status: int
    body: bytes = field(repr=False)


def claim(
    connection: Connection, scope: str, key: str, request: bytes, now: float, patience: float = 300.0
) -> Answer | None:
    """Claim *key* in *scope* (who calls what) for *request*; None for the first call, which then works.

    Else the answer that the first one got. A claim that was not answered for *patience* seconds is given
    to the next caller: the first has died. Raises `KeyReused` where that was for another request, and
    `StillWorking`.
    """
    row = {
        "scope": scope, "key_sha256": _hash(key), "request_sha256": hashlib.sha256(request).digest(),
        "claimed": now, "status": None, "sealed": None,
    }  # fmt: skip
    if insert_new(connection, _table, row):
        return None
    first = connection.execute(select(_table).where(_at(scope, key)).with_for_update()).one_or_none()
    if first is None:  # swept, or given back, just now
        raise StillWorking("the idempotency key was given back just now; try again")
    if bytes(first.request_sha256) != row["request_sha256"]:
        raise KeyReused("this idempotency key was used for another request; take a new one for each")
    if first.status is not None:
        return Answer(first.status, open_answer(key, scope, bytes(first.sealed)))
    if abs(now - first.claimed) < patience:  # one from the future is of a clock that was put back
        raise StillWorking("the first call with this idempotency key is still being worked on")
    connection.execute(update(_table).where(_at(scope, key)).values(claimed=now))
    return None


def answer(connection: Connection, scope: str, key: str, status: int, body: bytes) -> None:
    """Keep what the call that claimed *key* is answered; best in the transaction of what it did."""
    sealed = seal_answer(key, scope, body)
    connection.execute(update(_table).where(_at(scope, key)).values(status=status, sealed=sealed))


def give_back(connection: Connection, scope: str, key: str) -> None:
    """Let the next call with *key* be the first: this one did nothing."""
    connection.execute(delete(_table).where(_at(scope, key), _table.c.status.is_(None)))


def sweep(connection: Connection, before: float) -> int:
    """Remove keys that were claimed before *before*; how many that were."""
    return connection.execute(delete(_table).where(_table.c.claimed < before)).rowcount


def _at(scope: str, key: str) -> ColumnElement[bool]:
    return (_table.c.scope == scope) & (_table.c.key_sha256 == _hash(key))


def _hash(key: str) -> bytes:
    return hashlib.sha256(b"ingestd idempotency" + key.encode("utf-8", "surrogatepass")).digest()
