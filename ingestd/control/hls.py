"""``/hls/{stream}/…``: playlists and segments from disk, for small audiences.

A web server in front, or on the same directory, serves large ones.
"""

from __future__ import annotations

import os
import re
import stat
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import trio
from quart import Blueprint, Response, request
from quart_trio.wrappers.response import TrioFileBody
from werkzeug.datastructures import ContentRange
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from ingestd.auth.playback import with_token
from ingestd.control.access import Access, scope
from ingestd.control.errors import not_found
from ingestd.live.streams import Streams

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.(m3u8|ts|m4s|mp4)")
_TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "ts": "video/mp2t",
    "m4s": "video/iso.segment",
    "mp4": "video/mp4",
}
_BUFFER = 256 * 2**10

Caching: TypeAlias = Literal["no-cache", "public, max-age=3600, immutable", "private, no-store"]


async def _cut_to_range(response: Response) -> None:
    """Make *response* the part that the request asks for (RFC 9110, 14.2), if it asks for one.

    Quart's own takes a suffix, and a range that ends behind the file's end, for one that cannot be had.
    """
    size, wanted = response.content_length, request.range
    if size is None or wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return
    if request.if_range.etag is not None and request.if_range.etag != response.get_etag()[0]:
        return
    found = wanted.range_for_length(size)
    if found is None:
        raise RequestedRangeNotSatisfiable(size)
    begin, end = found
    body: Any = response.response
    await body.make_conditional(begin, end)
    response.status_code = HTTPStatus.PARTIAL_CONTENT
    response.content_length = end - begin
    response.content_range = ContentRange("bytes", begin, end, size)


def blueprint(running: Streams, access: Access) -> Blueprint:
    blueprint = Blueprint("hls", __name__, url_prefix="/hls")
    root = trio.Path(running.config.storage.state_dir / "hls")

    @blueprint.get("/<stream>/<name>")
    @scope("watch")
    async def serve(stream: str, name: str) -> Response:
        match = _NAME.fullmatch(name)
        if match is None or running.directory.get(stream) is None:
            return not_found("there is no such playlist or segment")
        path = root / stream / name
        try:
            # A playlist changes with each segment, and whole: read it at once. A segment never changes.
            found = await path.stat()
            playlist = await path.read_bytes() if match[1] == "m3u8" else None
        except FileNotFoundError:
            return not_found("there is no such playlist or segment; segments go when they leave the playlist")
        if not stat.S_ISREG(found.st_mode):
            return not_found("there is no such playlist or segment")
        if playlist is not None:
            token = access.link_token(request)
            if token is not None:
                playlist = with_token(playlist, token)
            response = Response(playlist)
            caching: Caching = "no-cache"
            await response.add_etag()
        else:
            response = Response(TrioFileBody(os.fspath(path), buffer_size=_BUFFER))
            response.content_length = found.st_size
            caching = "public, max-age=3600, immutable"
            response.set_etag(f"{found.st_mtime_ns:x}-{found.st_size:x}")
        response.content_type = _TYPES[match[1]]
        # What not everybody may see is in no shared cache.
        response.headers["Cache-Control"] = caching if access.is_open_to_viewers else "private, no-store"
        await response.make_conditional(request)
        response.accept_ranges = "bytes"
        if response.status_code == HTTPStatus.OK:
            await _cut_to_range(response)
        return response

    @blueprint.after_request
    async def for_any_page(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "Content-Length, Content-Range, Date"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return blueprint
