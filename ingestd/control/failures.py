"""What the application answers where a view raises: one place for the errors of all that lies below."""

from __future__ import annotations

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ingestd.control.errors import Refusal, http_problem, problem, refused
from ingestd.mux.errors import MuxError, MuxNotFound, MuxUnavailable
from ingestd.registry.database import DatabaseUnavailable, NotStorable
from ingestd.registry.seal import SealError


def handle_failures(app: QuartTrio) -> None:
    """Have *app* answer with problem details to each error that a view lets through."""
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Refusal, refused)
    app.register_error_handler(DatabaseUnavailable, _database_away)
    app.register_error_handler(NotStorable, _not_storable)
    app.register_error_handler(SealError, _cannot_seal)
    app.register_error_handler(MuxError, _mux_failed)


async def _database_away(error: DatabaseUnavailable) -> Response:
    return await refused(Refusal(503, str(error), retry_after=5))


async def _mux_failed(error: MuxError) -> Response:
    if isinstance(error, MuxNotFound):
        return await refused(Refusal(409, str(error)))
    after = error.retry_after if isinstance(error, MuxUnavailable) else None
    return await refused(Refusal(502, str(error), retry_after=after))


async def _not_storable(error: NotStorable) -> Response:
    return problem(422, "Unprocessable Content", str(error))


async def _cannot_seal(error: SealError) -> Response:
    return problem(409, "Conflict", str(error))
