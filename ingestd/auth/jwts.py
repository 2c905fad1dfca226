"""JWTs (RFC 7519) of somebody else's, checked against their JWKS (RFC 7517), from a URL or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog
import trio

from ingestd.auth.identity import SCOPES, Identity
from ingestd.config import Jwt

log = structlog.get_logger(__name__)

MAX_KEYS = 100
MAX_SET = 512 * 2**10
FORGOTTEN_AFTER = 86_400.0
"""Seconds for which keys hold while newer ones cannot be had."""
_TIMEOUT = 5.0
_LONGEST = 8 * 2**10


class WrongJwt(Exception):
    """It is not good; the text says why, and repeats nothing of it."""


class Jwts:
    """Checks JWTs as *config* says; its keys are read when the first comes, and kept."""

    def __init__(self, config: Jwt, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._keys: list[jwt.PyJWK] = []
        self._read = self._tried = float("-inf")
        self._reading = trio.Lock()

    async def find(self, token: str) -> Identity | None:
        """As `check`, with None for one that is not good."""
        try:
            return await self.check(token)
        except WrongJwt as error:
            log.info("jwt_refused", cause=str(error))
            return None

    async def check(self, token: str) -> Identity:
        """Whose *token* is, and its scopes. Raises `WrongJwt`."""
        if len(token) > _LONGEST:
            raise WrongJwt("the JWT is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise WrongJwt("the JWT is malformed") from None
        config, algorithm = self._config, header.get("alg")
        if algorithm not in config.algorithms:
            raise WrongJwt("the JWT is signed with an algorithm that auth.jwt.algorithms does not have")
        key = await self._key(header.get("kid"))
        required = ["exp", "sub"] + ["iss"] * bool(config.issuer) + ["aud"] * bool(config.audience)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                issuer=config.issuer or None,
                audience=config.audience or None,
                leeway=config.leeway,
                options={"require": required, "verify_aud": bool(config.audience)},
            )
        except jwt.ExpiredSignatureError:
            raise WrongJwt("the JWT has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise WrongJwt("the JWT's signature, issuer, audience or times are wrong") from None
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity:
        given = claims.get(self._config.scopes_claim)
        words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        scopes = frozenset(scope for scope in SCOPES if scope in words)
        name = "".join(c for c in str(claims["sub"])[:200] if c.isprintable())
        return Identity(name, scopes, "jwt", float(claims["exp"]) + self._config.leeway)

    async def _key(self, kid: object) -> jwt.PyJWK:
        async with self._reading:  # many may wait for one reading, and for no more
            now = trio.current_time()
            if now > self._read + self._config.cache:
                await self._refresh(now)
            key = self._find(kid)
            if key is None:
                await self._refresh(now)
                key = self._find(kid)
        if key is None:
            raise WrongJwt("no key of the JWKS is the JWT's")
        return key

    def _find(self, kid: object) -> jwt.PyJWK | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == kid), None)

    async def _refresh(self, now: float) -> None:
        """Read the set, but not more often than ``auth.jwt.refresh`` says: a stranger can name any key."""
        if now < self._tried + self._config.refresh:
            return
        self._tried = now
        try:
            self._keys, self._read = _parse(await self._fetch()), now
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, trio.TooSlowError) as error:
            if now > self._read + FORGOTTEN_AFTER:
                self._keys = []
            log.warning("jwks_not_read", cause=str(error) or type(error).__name__, keys=len(self._keys))
            return
        log.info("jwks_read", keys=len(self._keys))

    async def _fetch(self) -> bytes:
        if self._config.jwks_file:
            return await trio.to_thread.run_sync(_read_file, self._config.jwks_file)
        with trio.fail_after(_TIMEOUT):
            async with self._http.stream("GET", self._config.jwks_url) as response:
                if response.status_code != httpx.codes.OK:
                    raise ValueError(f"status {response.status_code}, expected 200 without a redirect")
                length = response.headers.get("Content-Length", "0")
                if not length.isdigit() or len(length) > 9 or int(length) > MAX_SET:
                    raise ValueError(f"more than {MAX_SET // 2**10} KiB")
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_SET:
                        raise ValueError(f"more than {MAX_SET // 2**10} KiB")
        return bytes(body)


def _read_file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_SET)


def _parse(text: bytes) -> list[jwt.PyJWK]:
    """The keys that may check a signature. Raises `ValueError` when there is none."""
    try:
        found = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('not a JWKS: expected {"keys": [...]}') from None
    keys = []
    for each in found[:MAX_KEYS] if isinstance(found, list) else ():
        # "oct" would be a secret that signs, too.
        if isinstance(each, dict) and each.get("kty") != "oct" and each.get("use") in (None, "sig"):
            try:
                keys.append(jwt.PyJWK(each))
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue
    if not keys:
        raise ValueError("no key in it can check a signature")
    return keys
