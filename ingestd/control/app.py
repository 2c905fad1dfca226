"""The control listener's application: one blueprint a file, put together here."""

from __future__ import annotations

from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ingestd.auth.authority import Authority
from ingestd.control import health, hls, logs, metrics, session, streams, webhooks
from ingestd.control.access import Access
from ingestd.control.errors import http_problem
from ingestd.live.lag import LoopLag
from ingestd.live.streams import Streams
from ingestd.log_ring import LogRing
from ingestd.notify.webhooks import Webhooks


def create_app(
    running: Streams, ring: LogRing, lag: LoopLag, authority: Authority, told: Webhooks
) -> QuartTrio:
    """The Quart application over *running*; *ring* has its log events, *lag* how late its loop is.

    *authority* says who may; a route that names no scope needs "admin". *told* are its webhooks.
    """
    app = QuartTrio("ingestd", static_folder=None)
    app.url_map.merge_slashes = False  # an odd path is 404, not a redirect
    app.register_error_handler(HTTPException, http_problem)
    access = Access(authority, running.config.control)
    access.guard(app)
    app.register_blueprint(session.blueprint(access))
    app.register_blueprint(health.blueprint(running))
    app.register_blueprint(streams.blueprint(running))
    app.register_blueprint(hls.blueprint(running, access))
    app.register_blueprint(logs.blueprint(running, ring))
    app.register_blueprint(webhooks.blueprint(told))
    app.register_blueprint(metrics.blueprint(running, lag))
    return app
