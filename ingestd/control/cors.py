"""Which pages of other origins may read answers (CORS, the Fetch standard): none, unless they are listed."""

from __future__ import annotations

from quart import Request, Response

from ingestd.auth.pages import Pages

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, X-CSRF-Token"
_EXPOSED = "Content-Length, Content-Range, Date, ETag, Location, Retry-After"
_MAX_AGE = "600"


def preflight(request: Request, pages: Pages, needed: str | None) -> Response | None:
    """The answer to a preflight from a page that may; None for any other OPTIONS.

    Players of any page may load what viewers see, with a ``Range``.
    """
    if not {"Origin", "Access-Control-Request-Method"} <= set(request.headers.keys()):
        return None
    response = Response(b"", 204)
    if needed == "watch":
        response.headers["Access-Control-Allow-Origin"] = "*"
    elif not _allow(request, response, pages):
        response.status_code = 403
        return response
    response.headers["Access-Control-Allow-Methods"] = "GET, HEAD" if needed == "watch" else _METHODS
    response.headers["Access-Control-Allow-Headers"] = _HEADERS
    response.headers["Access-Control-Max-Age"] = _MAX_AGE
    return response


def answered(request: Request, response: Response, pages: Pages) -> Response:
    """*response* with what a listed page needs to read it."""
    if "Origin" in request.headers and request.method != "OPTIONS" and _allow(request, response, pages):
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if pages.origins:
        response.vary.add("Origin")
    return response


def _allow(request: Request, response: Response, pages: Pages) -> bool:
    origin = request.headers["Origin"]
    if pages.is_listed(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
    elif pages.are_all_listed:
        response.headers["Access-Control-Allow-Origin"] = "*"
    else:
        return False
    return True
