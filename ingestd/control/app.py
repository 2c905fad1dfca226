"""The control listener's application: one blueprint a file, put together here."""

from __future__ import annotations

import trio
from quart_trio import QuartTrio

from ingestd.auth.authority import Authority
from ingestd.control import (
    about,
    events,
    expose,
    frontends,
    health,
    hls,
    logs,
    metrics,
    mux,
    openapi,
    pages,
    pipelines,
    playback,
    recordings,
    session,
    sessions,
    streams,
    thumbnails,
    watch_links,
    webhooks,
)
from ingestd.control.access import Access
from ingestd.control.at_mux import AtMux
from ingestd.control.desk import Desk
from ingestd.control.failures import handle_failures
from ingestd.control.links import Links
from ingestd.live.audience import Audience
from ingestd.live.lag import LoopLag
from ingestd.live.streams import Streams
from ingestd.log_ring import LogRing
from ingestd.mux.service import Mux
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.registry import Registry

#: Of any body, in bytes; what takes less says so.
_MAX_BODY = 2**20


def create_app(
    running: Streams,
    audience: Audience,
    registry: Registry,
    ring: LogRing,
    lag: LoopLag,
    authority: Authority,
    links: Links,
    ending: trio.Event,
    told: Webhooks,
    at_mux: Mux | None = None,
) -> QuartTrio:
    """The Quart application over *running*, its *audience*, and *registry*.

    *ring* has the log's events, *lag* how late the loop is; *authority* says who may, and a route that names
    no scope needs "admin". *ending* is set when answers that would go on for ever have to end. *told* are the
    endpoints that hear what happens; *at_mux* is there where Mux is used.
    """
    app = QuartTrio("ingestd", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max(_MAX_BODY, running.config.mux.max_webhook)
    app.url_map.merge_slashes = False  # an odd path is 404, not a redirect
    handle_failures(app)
    access = Access(authority, running.config.control)
    access.guard(app)
    desk = Desk(running, audience, registry, AtMux(at_mux))
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
        mux.blueprint(at_mux.receiver, at_mux.life) if at_mux is not None else mux.blueprint(None),
        expose.blueprint(desk),
        session.blueprint(access),
        hls.blueprint(running, access),
        watch_links.blueprint(desk, links, authority),
        playback.blueprint(desk, links, access),
        health.blueprint(running),
        metrics.blueprint(audience, registry, lag, told, at_mux),
        about.blueprint(links, access),
        pages.blueprint(links),
        openapi.blueprint(app),
    ):
        app.register_blueprint(blueprint)
    return app
