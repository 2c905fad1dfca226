"""Who may use a route: each names the scope that it needs, and one that names none needs "admin".

The checks are in the order in which they cost: the page, the address, then who it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import structlog
from quart import Request, Response, g, request
from quart_trio import QuartTrio

from ingestd.auth.authority import Authority
from ingestd.auth.identity import ANYBODY, Identity, Scope
from ingestd.auth.question import Unknown
from ingestd.auth.sessions import BrowserSession
from ingestd.config import Control
from ingestd.control import cors
from ingestd.control.errors import challenge, insufficient, problem

log = structlog.get_logger(__name__)

#: "watch" is what ``auth.playback`` says for the stream in the path; None: everybody.
Needed: TypeAlias = Scope | Literal["watch"] | None
F = TypeVar("F", bound=Callable[..., Any])

CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_LONGEST_TOKEN = 1024


def scope(needed: Needed) -> Callable[[F], F]:
    """Marks a view function with the scope that a request for it needs."""

    def mark(function: F) -> F:
        function.__scope__ = needed  # type: ignore[attr-defined]  # read by Access.guard
        return function

    return mark


def creates(function: F) -> F:
    """Marks a view function that makes something that lasts: ``auth.creates`` bounds how often."""
    function.__creates__ = True  # type: ignore[attr-defined]  # read by Access.guard
    return function


def who() -> Identity:
    """Who makes the request under way; `ANYBODY` where nobody was asked."""
    return g.get("identity") or ANYBODY


def still() -> Callable[[], Awaitable[bool]]:
    """What tells, also after the request, whether who has made it would be let in now."""
    found: Callable[[], Awaitable[bool]] = g.still
    return found


class Access:
    """Asks *authority* for each request."""

    def __init__(self, authority: Authority, control: Control) -> None:
        self.authority = authority
        self._pages = authority.pages
        self._asks = authority.config.is_configured
        self._guards_host = control.bind.is_loopback and not self._asks
        self.secure = control.public_url.startswith("https:")
        #: By its prefix browsers take no such cookie of another host of our domain (RFC 6265bis, 4.1.3.2).
        self.cookie = "__Host-ingestd" if self.secure else "ingestd"

    def guard(self, app: QuartTrio) -> None:
        """Hold each request to *app* to what its route needs."""

        @app.before_request
        async def check() -> Response | None:
            view = app.view_functions.get(request.endpoint or "")
            if view is None:
                return None  # no such path or method: answered without looking at anything
            needed: Needed = getattr(view, "__scope__", "admin")
            if request.method == "OPTIONS" and (answer := cors.preflight(request, self._pages, needed)):
                return answer
            found = await self.authorise(request, needed)
            if isinstance(found, Response):
                return found
            g.identity = found
            g.still = partial(self._may_still, found, needed)
            return self._one_more(request) if getattr(view, "__creates__", False) else None

        @app.after_request
        async def add_cors(response: Response) -> Response:
            return cors.answered(request, response, self._pages)

    async def authorise(self, request: Request, needed: Needed) -> Identity | Response:
        """Who makes *request*, if they may have what needs the scope *needed*; or the refusal."""
        refusal = self._strange_host(request, needed) or self._strange_page(request)
        if refusal is not None:
            return refusal
        if needed is None:
            return ANYBODY
        if not self._asks and (needed != "watch" or self.is_open_to_viewers):
            return ANYBODY
        if needed == "watch":
            return await self._viewer(request)
        return await self._member(request, needed)

    def address(self, request: Request) -> str:
        """The address of the client that makes *request*, which a trusted proxy may have passed on."""
        peer = (request.scope.get("client") or ("unknown",))[0]
        return self.authority.proxies.client(peer, request.headers.getlist("X-Forwarded-For"))

    # Viewers

    @property
    def is_open_to_viewers(self) -> bool:
        """Whether everybody may watch."""
        return self.authority.config.playback == "open"

    def link_token(self, request: Request) -> str | None:
        """The token of the link that *request* came by, where links have one."""
        token = request.args.get("token", "")
        return token if token and len(token) <= _LONGEST_TOKEN and not self.is_open_to_viewers else None

    async def _viewer(self, request: Request) -> Identity | Response:
        if self.is_open_to_viewers:
            return ANYBODY
        stream = str((request.view_args or {}).get("stream", ""))
        try:
            if await self.authority.may_watch(stream, self.link_token(request), self.address(request)):
                return ANYBODY
        except Unknown as error:
            response = problem(503, "Service Unavailable", str(error))
            response.headers["Retry-After"] = "5"
            return response
        if self._asks and (self._bearer(request) is not None or self.cookie in request.cookies):
            return await self._member(request, "read")
        return problem(403, "Forbidden", "this stream needs a link that is still good: ask where you got it")

    # Members

    async def _may_still(self, identity: Identity, needed: Needed) -> bool:
        """Whether *identity*, who was let in some time ago, would be now."""
        if identity.expires is not None and identity.expires <= time.time():
            return False
        if identity.digest is None or self.authority.tokens is None:
            return True
        now = await self.authority.tokens.still(identity)
        return now is not None and (needed is None or needed == "watch" or now.may(needed))

    async def _member(self, request: Request, needed: Scope) -> Identity | Response:
        token = self._bearer(request)
        if token is None:
            found = await self._by_cookie(request)
        else:
            found = await self.by_token(token, request)
        if isinstance(found, Response):
            return found
        if not found.may(needed):
            text = f'"{found.name}" has no scope for this: it needs "{needed}"'
            return _challenge(403, text, insufficient(needed))
        return found

    async def by_token(self, token: str, request: Request) -> Identity | Response:
        """Who holds the bearer *token*, or the refusal; wrong ones are counted by address."""
        address = self.address(request)
        if wait := self.authority.failed_tokens.held_back(address):
            return _later("too many wrong tokens from this address", wait)
        found = await self.authority.identify(token)
        if found is None:
            self.authority.failed_tokens.count(address)
            log.warning("token_refused", remote=address)
            return _challenge(401, "the token is wrong, expired or revoked", 'error="invalid_token"')
        return found

    async def _by_cookie(self, request: Request) -> Identity | Response:
        session = await self.signed_in(request)
        if session is None:
            text = 'expected "Authorization: Bearer TOKEN", or a browser that is signed in (POST /v1/session)'
            return _challenge(401, text)
        if request.method not in SAFE:
            if not self._is_own_page(request):
                return problem(403, "Forbidden", "a browser that is signed in must say that the page is ours")
            if not session.is_csrf(request.headers.get(CSRF_HEADER, "")):
                text = f"expected {CSRF_HEADER} with the csrf that GET /v1/session tells"
                return problem(403, "Forbidden", text)
        return session.identity

    async def signed_in(self, request: Request) -> BrowserSession | None:
        """The browser session whose cookie *request* has."""
        return await self.authority.signed_in(request.cookies.get(self.cookie, ""))

    def _bearer(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    # Pages

    def _strange_host(self, request: Request, needed: Needed) -> Response | None:
        """Where nobody is asked, the browser's own machine is all that protects: hold off DNS rebinding."""
        if not self._guards_host or needed is None or self._pages.knows(request.headers.get("Host", "")):
            return None
        text = "the Host header is none of this listener's: use a loopback name, or set control.public_url"
        return problem(403, "Forbidden", text)

    def _strange_page(self, request: Request) -> Response | None:
        """No page of a stranger may make a browser do anything here, whoever is signed in."""
        if request.method in SAFE:
            return None
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if (site is None and origin is None) or self._is_own_page(request) or self._pages.are_all_listed:
            return None
        if self._asks and self._bearer(request) is not None:
            return None  # a browser does not add that by itself, and has asked in a preflight if it may
        text = "pages of this origin may not do that: list it in control.cors_origins, or set public_url"
        return problem(403, "Forbidden", text)

    def _is_own_page(self, request: Request) -> bool:
        """Whether the browser says that *request* is from a page of ours, or a listed one's, or from none."""
        origin = request.headers.get("Origin")
        if origin is not None and self._pages.is_listed(origin):
            return True
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        return origin is not None and self._pages.is_own(origin, request.headers.get("Host", ""))

    def _one_more(self, request: Request) -> Response | None:
        address = self.address(request)
        if wait := self.authority.creates.held_back(address):
            return _later("too many creates from this address", wait)
        self.authority.creates.count(address)
        return None


def _later(text: str, wait: float) -> Response:
    response = problem(429, "Too Many Requests", f"{text}; try again in {math.ceil(wait)} s")
    response.headers["Retry-After"] = str(math.ceil(wait))
    return response


def _challenge(status: int, text: str, *params: str) -> Response:
    """A refusal that says how to be let in."""
    response = problem(status, "Unauthorized" if status == 401 else "Forbidden", text)
    response.headers["WWW-Authenticate"] = challenge(*params)
    return response
