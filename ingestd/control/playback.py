"""``/v1/playback/{stream}``: where a stream is watched, for players and pages of any origin."""

from __future__ import annotations

import time
from urllib.parse import quote

from quart import Blueprint, Response, request

from ingestd.control.access import Access
from ingestd.control.contract import Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.links import Links
from ingestd.control.shapes import PlaybackTold
from ingestd.live.state import StreamState
from ingestd.live.status import rfc3339
from ingestd.registry.model import Stream

#: Seconds for which a link is good that a member of ours gets for their own player.
_GOOD_FOR = 3600.0
_ON = (StreamState.CONNECTING, StreamState.LIVE, StreamState.INTERRUPTED)


def blueprint(desk: Desk, links: Links, access: Access) -> Blueprint:
    routes = Routes("playback", "Playback")

    @routes.get(
        "/v1/playback/<stream>", "Where it is watched", scope="watch", answers=[ok(PlaybackTold)],
        problems=(404, 503),
    )  # fmt: skip
    async def show(stream: str) -> PlaybackTold:
        """All that a player needs, for a stream that is live or may become so. The token of a signed link
        (`?token=`) is in the URLs again; who asks with a token of the API's own gets one in them.
        """
        found = desk.get(stream)
        session = desk.streams.sessions.get(stream)
        on = session is not None and session.state in _ON
        query = _query(found)

        def url(where: str) -> str:
            return where + query

        # Who watches may not have thumbnails where the API asks who somebody is.
        pictured = on and not access.authority.config.is_configured
        return PlaybackTold(
            stream=stream,
            title=found.title,
            state=session.state.value if session is not None else StreamState.IDLE.value,
            since=rfc3339(session.since) if session is not None else None,
            watch=url(links.watch(stream)),
            media=url(links.media(stream)),
            hls=url(links.playlist(stream)) if desk.has_hls(found) else None,
            page=url(links.page(stream)),
            viewers=desk.audience.of(stream),
            poster=links.thumbnail(stream) if pictured else None,
            live_since=session.started if session is not None and on else None,
        )

    def _query(stream: Stream) -> str:
        token, playback = access.link_token(request), access.authority.playback
        if token is None and playback is not None and not access.is_open_to_viewers:
            token = playback.sign(stream.name, time.time() + _GOOD_FOR, life=stream.life)
        return "" if token is None else f"?token={quote(token, safe='')}"

    @routes.blueprint.after_request
    async def for_any_page(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    return routes.blueprint
