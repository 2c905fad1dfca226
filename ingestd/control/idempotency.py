"""Idempotency keys: a create that is sent again, because nobody knows what became of it, is done once.

The answer has the publish key in it. It is kept for a day, sealed with the idempotency key, of which the
database has a hash only: who has the key can be told again, and nobody else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio
from quart import Response, request
from sqlalchemy import Connection

from ingestd.control.contract import JSON
from ingestd.control.errors import Refusal
from ingestd.registry import idempotency
from ingestd.registry.database import Database, DatabaseUnavailable

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
ABOUT = (
    "A text of your own, like a random UUID, of at most 255 visible characters. The same request with the "
    "same key is done once, and answered the same for 24 h."
)
LIFETIME = 86_400.0
_KEY = re.compile(r"[!-~]{1,255}")


class Keep(Protocol):
    """Keeps the answer in the transaction that it is given."""

    def __call__(self, connection: Connection, *, status: int, body: bytes) -> None: ...


async def once(
    database: Database, who: str, asked: bytes, work: Callable[[Keep], Awaitable[tuple[int, bytes]]]
) -> tuple[int, bytes, bool]:
    """Status and body of *work*, or of the one that the request's key has had; whether it was that one.

    *asked* is the request, *who* makes it. *work* gets what keeps its answer, to be called in the
    transaction of what it does. Raises `Refusal`, and whatever *work* raises.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return (*await work(_forget), False)
    if _KEY.fullmatch(key) is None:
        raise Refusal(400, f"{HEADER}: expected 1 to 255 visible ASCII characters")
    scope = f"{who} {request.method} {request.path}"
    try:
        first = await database.run(_claim, scope, key, asked)
    except idempotency.KeyReused as error:
        raise Refusal(422, str(error)) from None
    except idempotency.StillWorking as error:
        raise Refusal(409, str(error), retry_after=1) from None
    if first is not None:
        return first.status, first.body, True

    def keep(connection: Connection, *, status: int, body: bytes) -> None:
        idempotency.answer(connection, scope, key, status, body)

    try:
        return (*await work(keep), False)
    except BaseException:
        with trio.CancelScope(shield=True):
            try:
                await database.run(idempotency.give_back, scope, key)
            except DatabaseUnavailable:
                # It goes to the next caller after some minutes.
                log.warning("idempotency_key_not_given_back")
        raise


def as_told(status: int, body: bytes, *, again: bool) -> Response:
    """The response; one that is told *again* says so."""
    response = Response(body, status, content_type=JSON)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if again:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _claim(connection: Connection, scope: str, key: str, asked: bytes) -> idempotency.Answer | None:
    now = time.time()
    idempotency.sweep(connection, now - LIFETIME)
    return idempotency.claim(connection, scope, key, asked, now)


def _forget(connection: Connection, *, status: int, body: bytes) -> None:
    """There is no key to keep it for."""
    del connection, status, body
