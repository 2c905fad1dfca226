"""``/hls/{stream}/…``: playlists and segments from disk, for small audiences.

A web server in front, or on the same directory, serves large ones.
"""

from __future__ import annotations

import re

import trio
from quart import Blueprint, Response, request

from ingestd.auth.playback import with_token
from ingestd.control.access import Access
from ingestd.control.contract import Answer, Routes
from ingestd.control.errors import not_found
from ingestd.control.files import conditional, file_response, regular_size
from ingestd.live.streams import Streams

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.(m3u8|ts|m4s|mp4)")
_TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "ts": "video/mp2t",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
}
_PRIVATE = "private, no-store"


def blueprint(running: Streams, access: Access) -> Blueprint:
    routes = Routes("hls", "Playback")
    root = trio.Path(running.config.storage.state_dir / "hls")
    media = ", ".join(dict.fromkeys(_TYPES.values()))

    @routes.get(
        "/hls/<stream>/<file>", "HLS", scope="watch", problems=(404, 416, 503),
        answers=[
            Answer(status=200, about="The playlist or segment.", media=media),
            Answer(status=206, about="A part of it (`Range`).", media=media),
            Answer(status=304, about="It is as the client has it.", media=None),
        ],
    )  # fmt: skip
    async def serve(stream: str, file: str) -> Response:
        """`index.m3u8` is the media playlist of a stream whose pipeline has an `hls` sink; its segments are
        beside it.
        """
        match = _NAME.fullmatch(file)
        if match is None or running.directory.get(stream) is None:
            return not_found("there is no such playlist or segment")
        path = root / stream / file
        found = await regular_size(path)
        if found is None:
            return not_found("there is no such playlist or segment; segments go when they leave the playlist")
        # What not everybody may see is in no shared cache.
        private = None if access.is_open_to_viewers else _PRIVATE
        if match[1] != "m3u8":
            caching = private or "public, max-age=3600, immutable"
            return await file_response(path, found, _TYPES[match[1]], caching)
        try:
            # A playlist changes with each segment, and whole: read it at once. A segment never changes.
            playlist = await path.read_bytes()
        except FileNotFoundError:
            return not_found("there is no such playlist")
        token = access.link_token(request)
        response = Response(with_token(playlist, token) if token is not None else playlist)
        await response.add_etag()
        return await conditional(response, _TYPES["m3u8"], private or "no-cache")

    @routes.blueprint.after_request
    async def for_any_page(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "Content-Length, Content-Range, Date, ETag"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return routes.blueprint
