"""All that decides who may, put together from the configuration, for the time that the daemon runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import define

from ingestd.auth.gate import Gate
from ingestd.auth.identity import ANYBODY, Identity
from ingestd.auth.pages import Pages
from ingestd.auth.playback import Playback
from ingestd.auth.proxies import Proxies
from ingestd.auth.question import Asked, Question
from ingestd.auth.rates import Rates
from ingestd.auth.sessions import BrowserSession, BrowserSessions
from ingestd.auth.token_file import TokenFile
from ingestd.config import Auth, Config
from ingestd.credentials import read_secret

if TYPE_CHECKING:
    from ingestd.auth.jwts import Jwts


@define(eq=False)
class Authority:
    """What the listeners ask. Without tokens and JWTs it knows nobody: everybody is `ANYBODY`."""

    config: Auth
    #: The life of a stream, None for one that is not there; raises `Unknown`.
    life: Callable[[str], str | None]
    gate: Gate
    pages: Pages
    proxies: Proxies
    sessions: BrowserSessions
    failed_tokens: Rates
    failed_links: Rates
    creates: Rates
    tokens: TokenFile | None = None
    jwts: Jwts | None = None
    playback: Playback | None = None
    application: Asked | None = None

    async def identify(self, token: str) -> Identity | None:
        """Who holds the bearer *token*; None for nobody. Failures are not counted here."""
        if not self.config.is_configured:
            return ANYBODY
        if self.jwts is not None and token.count(".") == 2:
            return await self.jwts.find(token)
        return None if self.tokens is None else await self.tokens.find(token)

    async def signed_in(self, name: str) -> BrowserSession | None:
        """The browser session of the id *name*, as long as the token that began it is good."""
        session = self.sessions.get(name)
        if session is None or session.identity.digest is None:
            return session
        now = None if self.tokens is None else await self.tokens.still(session.identity)
        if now is None:
            self.sessions.end(name)
            return None
        return BrowserSession(now, session.expires, session.csrf)

    async def may_watch(self, stream: str, token: str | None, address: str) -> bool:
        """Whether who has *token* (of ``?token=``) may watch. Raises `Unknown`."""
        if self.config.playback == "signed":
            if not token or self.playback is None or (life := self.life(stream)) is None:
                return False
            return self.playback.allows(token, stream, address, life=life)
        if self.config.playback == "ask" and self.application is not None:
            return await self.application.may(Question("watch", stream, address, token))
        return self.config.playback == "open"


@asynccontextmanager
async def open_authority(config: Config, life: Callable[[str], str | None]) -> AsyncIterator[Authority]:
    """The authority that *config* describes, with its connections, until the end of the block.

    *life* tells that of a stream, as `Authority` has it.

    Raises `CredentialError` when the playback key cannot be read any more.
    """
    auth, control, ingest = config.auth, config.control, config.ingest
    async with _asked(auth) as (application, jwts):
        yield Authority(
            auth,
            life,
            Gate(
                Pages.of(ingest.bind, control.public_url, ingest.origins),
                Proxies.of(ingest.trusted_proxies),
                Rates(auth.failures, auth.failures_in_all),
                application,
                auth.unknown_keys == "ask",
            ),
            Pages.of(control.bind, control.public_url, control.cors_origins),
            Proxies.of(control.trusted_proxies),
            BrowserSessions(auth.session, auth.max_sessions),
            Rates(auth.failures, auth.failures_in_all),
            Rates(auth.failures, auth.failures_in_all),
            Rates(auth.creates, auth.creates_in_all),
            TokenFile(auth.tokens_file) if auth.tokens_file else None,
            jwts,
            Playback(read_secret(auth.playback_key_file)) if auth.playback_key_file else None,
            application,
        )


@asynccontextmanager
async def _asked(auth: Auth) -> AsyncIterator[tuple[Asked | None, Jwts | None]]:
    """Those who are asked over HTTP; what that takes is imported, half a second, where somebody is."""
    jwt = auth.jwt
    takes_jwts = bool(jwt.jwks_url or jwt.jwks_file)
    if not (auth.url or takes_jwts):
        yield None, None
        return
    import httpx

    from ingestd.auth.application import Application
    from ingestd.auth.jwts import Jwts

    # No proxy and no .netrc of the environment, and no redirect: questions go where the operator said.
    async with httpx.AsyncClient(timeout=auth.timeout, trust_env=False, follow_redirects=False) as http:
        yield Application(auth, http) if auth.url else None, Jwts(jwt, http) if takes_jwts else None
