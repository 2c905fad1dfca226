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
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable

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
    body = TrioFileBody(os.fspath(path), buffer_size=_BUFFER)
    body.size = body.end = found.st_size  # it may have grown since
    response = Response(body)
    response.content_length = found.st_size
    response.set_etag(f"{found.st_mtime_ns:x}-{found.st_size:x}")
    # A long file on a slow line takes as long as it takes; who takes nothing is cut off by the listener.
    response.timeout = None
    return await conditional(response, media, caching)


async def conditional(response: Response, media: str, caching: str) -> Response:
    """*response* as *media*, cut to what the request asks for, or 304. Raises Werkzeug's errors."""
    response.content_type = media
    response.headers["Cache-Control"] = caching
    response.headers["X-Content-Type-Options"] = "nosniff"
    await response.make_conditional(request)
    response.accept_ranges = "bytes"
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        raise PreconditionFailed("the file is not the one that If-Match names")
    if response.status_code == HTTPStatus.OK and request.method == "GET" and _is_part_wanted(response):
        await _cut_to_range(response)
    return response


def _is_part_wanted(response: Response) -> bool:
    """Whether ``Range`` counts: without ``If-Range``, or where that is our ETag, and no weak one.

    A date there is never right, since no file of ours tells one (RFC 9110, 13.1.5).
    """
    expected = request.headers.get("If-Range")
    return expected is None or expected.strip() == response.headers["ETag"]


async def _cut_to_range(response: Response) -> None:
    """Make *response* the part that the request asks for (RFC 9110, 14.2), if it asks for one.

    Quart's own takes a suffix, and a range that ends behind the file's end, for one that cannot be had.
    """
    size, wanted = response.content_length, request.range
    if size is None or wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return
    ((begin, end),) = wanted.ranges
    if begin < 0:  # the last so many bytes, or all that there are
        begin, end = max(0, size + begin), size
    end = size if end is None else min(end, size)
    if begin >= size:
        raise RequestedRangeNotSatisfiable(size)
    body: Any = response.response
    await body.make_conditional(begin, end)
    response.status_code = HTTPStatus.PARTIAL_CONTENT
    response.content_length = end - begin
    response.content_range = ContentRange("bytes", begin, end, size)
