"""The control listener's application: one blueprint a file, put together here."""

from __future__ import annotations

import trio
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ingestd.auth.authority import Authority
from ingestd.control import (
    documents,
    events,
    expose,
    frontends,
    health,
    hls,
    logs,
    metrics,
    mux,
    openapi,
    pipelines,
    recordings,
    session,
    sessions,
    streams,
    thumbnails,
    webhooks,
)
from ingestd.control.access import Access
from ingestd.control.at_mux import AtMux
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal, http_problem, problem, refused
from ingestd.control.links import Links
from ingestd.live.lag import LoopLag
from ingestd.live.streams import Streams
from ingestd.log_ring import LogRing
from ingestd.mux.errors import MuxError, MuxNotFound, MuxUnavailable
from ingestd.mux.service import Mux
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import DatabaseUnavailable, NotStorable
from ingestd.registry.registry import Registry
from ingestd.registry.seal import SealError

#: Of any body, in bytes; what takes less says so.
_MAX_BODY = 2**20


def create_app(
    running: Streams,
    registry: Registry,
    ring: LogRing,
    lag: LoopLag,
    authority: Authority,
    links: Links,
    ending: trio.Event,
    told: Webhooks,
    at_mux: Mux | None = None,
) -> QuartTrio:
    """The Quart application over *running* and *registry*.

    *ring* has the log's events, *lag* how late the loop is; *authority* says who may, and a route that names
    no scope needs "admin". *ending* is set when answers that would go on for ever have to end. *told* are the
    endpoints that hear what happens; *at_mux* is there where Mux is used.
    """
    app = QuartTrio("ingestd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max(_MAX_BODY, running.config.mux.max_webhook)
    app.url_map.merge_slashes = False  # an odd path is 404, not a redirect
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Refusal, refused)
    app.register_error_handler(DatabaseUnavailable, _database_away)
    app.register_error_handler(NotStorable, _not_storable)
    app.register_error_handler(SealError, _cannot_seal)
    app.register_error_handler(MuxError, _mux_failed)
    access = Access(authority, running.config.control)
    access.guard(app)
    desk = Desk(running, registry, AtMux(at_mux))
    telling = streams.Telling(desk, links, authority)
    for blueprint in (
        streams.blueprint(desk, telling),
        sessions.blueprint(desk),
        recordings.blueprint(desk),
        pipelines.blueprint(running),
        thumbnails.blueprint(desk),
        events.blueprint(desk, ending),
        logs.blueprint(desk, ring),
        frontends.blueprint(desk, telling),
        webhooks.blueprint(told),
        mux.blueprint(at_mux.receiver if at_mux is not None else None),
        expose.blueprint(desk),
        session.blueprint(access),
        hls.blueprint(running, access),
        health.blueprint(running),
        metrics.blueprint(running, lag),
        documents.blueprint(),
        openapi.blueprint(app),
    ):
        app.register_blueprint(blueprint)
    return app


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
