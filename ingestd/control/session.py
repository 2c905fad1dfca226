"""``/v1/session``: browsers sign in with a token, because images, videos and event sources carry none."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta
from quart import Blueprint, Response, request

from ingestd.auth.identity import Identity, Scope
from ingestd.auth.sessions import BrowserSession
from ingestd.auth.tokens import rfc3339
from ingestd.control.access import Access, who
from ingestd.control.contract import Answer, Routes, as_response, ok
from ingestd.control.errors import problem
from ingestd.live.shapes import Time

log = structlog.get_logger(__name__)


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """A token, to be exchanged for a cookie."""

    token: Annotated[str, Meta(min_length=1, max_length=1024)]


class SignedIn(msgspec.Struct):
    """Who it is. `csrf` is what `X-CSRF-Token` of unsafe requests must be; null without a cookie."""

    name: str
    scopes: list[Scope]
    via: Literal["session", "token", "jwt", "open"]
    expires: Time | None
    csrf: str | None


def blueprint(access: Access) -> Blueprint:
    routes = Routes("session", "Signing in")
    known = ok(SignedIn, "Who it is.")

    @routes.post(
        "/v1/session",
        "Sign a browser in",
        scope=None,
        body=SignIn,
        answers=[known],
        problems=(401, 429),
        max_body=16 * 2**10,
    )
    async def sign_in(body: SignIn) -> Response:
        """Exchanges a token for an HttpOnly cookie: images, videos and event sources carry no header."""
        found = await access.by_token(body.token, request)
        if isinstance(found, Response):
            return found
        if found.via == "open":
            return as_response(_shown(found, None))
        access.authority.sessions.end(request.cookies.get(access.cookie, ""))
        name, session = access.authority.sessions.begin(found)
        log.info("signed_in", name=found.name, remote=access.address(request))
        response = as_response(_shown(found, session))
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

    @routes.get("/v1/session", "Who am I?", scope="read", answers=[known])
    async def show() -> SignedIn:
        """By cookie or by token."""
        by_header = "Authorization" in request.headers
        return _shown(who(), None if by_header else await access.signed_in(request))

    gone = Answer(status=204, about="The browser is signed out.", media=None)

    @routes.route(
        "delete", "/v1/session", "Sign a browser out", scope="read", answers=[gone], problems=(404,)
    )
    async def sign_out() -> Response:
        """The cookie is worth nothing any more."""
        if access.cookie not in request.cookies:
            return problem(404, "Not Found", "no browser is signed in with this request")
        access.authority.sessions.end(request.cookies[access.cookie])
        response = as_response((None, 204))
        response.delete_cookie(
            access.cookie, path="/", secure=access.secure, httponly=True, samesite="Strict"
        )
        return response

    return routes.blueprint


def _shown(identity: Identity, session: BrowserSession | None) -> SignedIn:
    expires = identity.expires if session is None else session.expires
    return SignedIn(
        name=identity.name,
        scopes=identity.all_scopes,
        via="session" if session is not None else identity.via,
        expires=None if expires is None else rfc3339(expires),
        csrf=None if session is None else session.csrf,
    )
