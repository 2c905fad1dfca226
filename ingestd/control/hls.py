"""``/hls/{stream}/…``: playlists and segments from disk, for small audiences; a web server serves large ones."""

from __future__ import annotations

import re

import trio
from quart import Blueprint, Response

from ingestd.live.streams import Streams

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.(m3u8|ts|m4s|mp4)")
_TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "ts": "video/mp2t",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
}
_MAX_SEGMENT = 256 * 2**20


def blueprint(running: Streams) -> Blueprint:
    blueprint = Blueprint("hls", __name__, url_prefix="/hls")
    root = running.config.storage.state_dir / "hls"

    @blueprint.get("/<stream>/<name>")
    async def serve(stream: str, name: str) -> Response:
        match = _NAME.fullmatch(name)
        if match is None or stream not in running.config.streams:
            return Response("not found\n", 404, content_type="text/plain; charset=utf-8")
        path = trio.Path(root / stream / name)
        try:
            if (await path.stat()).st_size > _MAX_SEGMENT:
                return Response("too large\n", 500, content_type="text/plain; charset=utf-8")
            body = await path.read_bytes()
        except FileNotFoundError:
            return Response("not found\n", 404, content_type="text/plain; charset=utf-8")
        response = Response(body, content_type=_TYPES[match.group(1)])
        # A playlist changes with each segment; a segment never does.
        live = match.group(1) == "m3u8"
        response.headers["Cache-Control"] = "no-cache" if live else "public, max-age=3600, immutable"
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return blueprint
