"""``/v1/session``: browsers sign in with a token, because images, videos and event sources carry none."""

from __future__ import annotations

import time

import structlog
from quart import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from ingestd.auth.identity import Identity
from ingestd.auth.sessions import BrowserSession
from ingestd.auth.tokens import rfc3339
from ingestd.control.access import Access, scope, who
from ingestd.control.errors import problem

log = structlog.get_logger(__name__)

_MAX_BODY = 16 * 2**10


def blueprint(access: Access) -> Blueprint:
    blueprint = Blueprint("session", __name__, url_prefix="/v1/session")

    @blueprint.post("")
    @scope(None)
    async def sign_in() -> Response:
        if request.content_length is None or request.content_length > _MAX_BODY:
            raise RequestEntityTooLarge(f"expected at most {_MAX_BODY // 1024} KiB, with a Content-Length")
        body = await request.get_json(silent=True)
        token = body.get("token") if isinstance(body, dict) else None
        if not isinstance(token, str) or request.mimetype != "application/json":
            raise BadRequest('expected application/json like {"token": "..."}')
        found = await access.by_token(token, request)
        if isinstance(found, Response):
            return found
        if found.via == "open":
            return jsonify(_shown(found, None))
        access.authority.sessions.end(request.cookies.get(access.cookie, ""))
        name, session = access.authority.sessions.begin(found)
        log.info("signed_in", name=found.name, remote=access.address(request))
        response = jsonify(_shown(found, session))
        response.set_cookie(
            access.cookie,
            name,
            max_age=max(0, round(session.expires - time.time())),
            path="/",
            secure=access.secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    @blueprint.get("")
    @scope("read")
    async def show() -> Response:
        by_header = "Authorization" in request.headers
        return jsonify(_shown(who(), None if by_header else await access.signed_in(request)))

    @blueprint.delete("")
    @scope("read")
    async def sign_out() -> Response:
        if access.cookie not in request.cookies:
            return problem(404, "Not Found", "no browser is signed in with this request")
        access.authority.sessions.end(request.cookies[access.cookie])
        response = Response(b"", 204)
        response.delete_cookie(
            access.cookie, path="/", secure=access.secure, httponly=True, samesite="Strict"
        )
        return response

    @blueprint.after_request
    async def fresh(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def _shown(identity: Identity, session: BrowserSession | None) -> dict[str, object]:
    expires = identity.expires if session is None else session.expires
    return {
        "name": identity.name,
        "scopes": identity.all_scopes,
        "via": "session" if session is not None else identity.via,
        "expires": None if expires is None else rfc3339(expires),
        "csrf": None if session is None else session.csrf,
    }
