"""Files as responses: with their length, an ETag, conditional requests and single ranges (RFC 9110)."""

from __future__ import annotations

import os
import stat
from http import HTTPStatus
from typing import Any

import trio
from quart import Response, request
from quart_trio.wrappers.response import TrioFileBody
from werkzeug.datastructures import ContentRange
from werkzeug.exceptions import RequestedRangeNotSatisfiable

_BUFFER = 256 * 2**10


async def regular_size(path: trio.Path) -> os.stat_result | None:
    """What *path* is like, if it is a regular file."""
    try:
        found = await path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


async def file_response(path: trio.Path, found: os.stat_result, media: str, caching: str) -> Response:
    """*path*, of which *found* was found, as *media*; what the client asks of it, or has already."""
    response = Response(TrioFileBody(os.fspath(path), buffer_size=_BUFFER))
    response.content_length = found.st_size
    response.set_etag(f"{found.st_mtime_ns:x}-{found.st_size:x}")
    # A long file on a slow line takes as long as it takes; who takes nothing is cut off by the listener.
    response.timeout = None
    return await conditional(response, media, caching)


async def conditional(response: Response, media: str, caching: str) -> Response:
    """*response* as *media*, cut to what the request asks for, or 304."""
    response.content_type = media
    response.headers["Cache-Control"] = caching
    response.headers["X-Content-Type-Options"] = "nosniff"
    await response.make_conditional(request)
    response.accept_ranges = "bytes"
    if response.status_code == HTTPStatus.OK:
        await _cut_to_range(response)
    return response


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
