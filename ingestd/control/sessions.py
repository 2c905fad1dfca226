"""Sessions: which ran, when, how they ended, and what came. The database has them."""

from __future__ import annotations

import re
from functools import partial

from msgspec import UNSET
from quart import Blueprint

from ingestd.control.contract import Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.shapes import SessionList, SessionListing, SessionsOfStream, SessionTold, WhichSession
from ingestd.live.status import rfc3339
from ingestd.registry.model import SessionRow
from ingestd.registry.paging import BadCursor
from ingestd.registry.sessions import find_sessions, list_sessions

_TAG = "Sessions and recordings"
_ID = re.compile(r"[A-Za-z0-9.:_-]{1,64}")


def blueprint(desk: Desk) -> Blueprint:
    routes = Routes("sessions", _TAG)
    database = desk.registry.database

    async def listed(query: SessionListing) -> SessionList:
        ask = partial(
            list_sessions, stream=query.stream, on_air=query.on_air, limit=query.limit, cursor=query.cursor
        )
        try:
            page = await database.read(ask)
        except BadCursor as error:
            raise Refusal(400, f"cursor: {error}") from None
        return SessionList([_told(row) for row in page.items], page.next or UNSET)

    @routes.get(
        "/v1/sessions", "List sessions", scope="read", query=SessionListing, answers=[ok(SessionList)],
        problems=(503,),
    )  # fmt: skip
    async def listing(query: SessionListing) -> SessionList:
        """Those that began last come first. A session on air is up to ten seconds behind `/v1/streams`."""
        return await listed(query)

    @routes.get(
        "/v1/sessions/<session>", "Show a session", scope="read", query=WhichSession,
        answers=[ok(SessionTold)], problems=(404, 409, 503),
    )  # fmt: skip
    async def show(session: str, query: WhichSession) -> SessionTold:
        """Its id is the time at which it began."""
        rows = await database.read(find_sessions, session, query.stream) if _ID.fullmatch(session) else []
        if not rows:
            raise Refusal(404, "there is no such session")
        if len(rows) > 1:
            raise Refusal(409, "sessions of several streams have this id: say which with ?stream=")
        return _told(rows[0])

    @routes.get(
        "/v1/streams/<name>/sessions", "List a stream's sessions", scope="read", query=SessionsOfStream,
        answers=[ok(SessionList)], problems=(404, 503),
    )  # fmt: skip
    async def of_stream(name: str, query: SessionsOfStream) -> SessionList:
        """As `/v1/sessions?stream=`, which has those of streams that were deleted, too."""
        desk.get(name)
        return await listed(SessionListing(stream=name, limit=query.limit, cursor=query.cursor))

    return routes.blueprint


def _told(row: SessionRow) -> SessionTold:
    return SessionTold(
        id=row.id,
        stream=row.stream,
        pipeline=row.pipeline,
        state=row.state,  # type: ignore[arg-type]  # what a session's state was when it was written
        started=rfc3339(row.started),
        ended=None if row.ended is None else rfc3339(row.ended),
        cause=row.cause,
        chunks=row.chunks,
        bytes=row.bytes,
        frames=row.frames,
        gaps=row.gaps,
        gap_seconds=row.gap_seconds,
    )
