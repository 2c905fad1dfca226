"""JWTs against a JWKS on a real server: whose signature, for whom, until when; how often keys are read."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode
from structlog.testing import capture_logs
from trio.testing import MockClock

from ingestd.auth.jwts import FORGOTTEN_AFTER, MAX_SET, Jwts, WrongJwt
from ingestd.config import Jwt
from tests.auth.serving import Answer, Server, http_server, listener

ISSUER, AUDIENCE = "https://id.example.org", "ingestd"
RSA, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    kinds: list[tuple[type[Any], type[Any]]] = [
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
        (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
    ]
    (kind,) = [algorithm for base, algorithm in kinds if isinstance(key, base)]
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **more}


def sign(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    """A token that is good, but for *claims*; None takes one out."""
    now = int(time.time())
    all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 300, "scope": "openid read"}
    all_claims = {name: value for name, value in (all_claims | claims).items() if value is not None}
    return jwt.encode(all_claims, key, algorithm, headers={} if kid is None else {"kid": kid})


KEYS = [jwk(RSA, "rsa"), jwk(EC, "ec", use="sig"), jwk(ED, "ed")]


@asynccontextmanager
async def checking(
    keys: list[Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Jwts, Server, list[Any]]]:
    """A checker whose keys are on a server, which serves the list as it then is."""
    served: list[Any] = list(KEYS if keys is None else keys)

    async def answer(path: str, body: bytes) -> Answer:
        return (200, {}, json.dumps({"keys": served}).encode()) if served else (500, {}, b"")

    async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
        config = Jwt(jwks_url=made.url(), issuer=ISSUER, audience=AUDIENCE, **options)
        yield Jwts(config, http), made, served


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
async def test_a_good_one(key: Any, algorithm: str, kid: str) -> None:
    """Its subject and scopes; the keys are read once."""
    async with checking() as (jwts, made, _):
        for _ in range(3):
            who = await jwts.check(sign(key, algorithm, kid))
        assert (who.name, who.via, who.all_scopes) == ("ann", "jwt", ["read"])
        assert len(made.asked) == 1


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("admin", ["read", "publish", "admin"]),
        (["publish", "x"], ["read", "publish"]),
        ("readx", []),
        ("", []),
        (None, []),
        (7, []),
        ({"admin": 1}, []),
        ([["admin"]], []),
    ],
)
async def test_scopes(scope: object, found: list[str]) -> None:
    """A text with spaces or an array; what is none of ours counts for nothing."""
    async with checking() as (jwts, _, _):
        assert (await jwts.check(sign(scope=scope))).all_scopes == found


async def test_another_claim_may_have_the_scopes() -> None:
    async with checking(scopes_claim="https://ingestd/scopes") as (jwts, _, _):
        who = await jwts.check(sign(**{"https://ingestd/scopes": ["admin"]}))
        assert who.may("admin")


def _none() -> str:
    return jwt.encode({"sub": "ann", "exp": time.time() + 99}, "", algorithm="none", headers={"kid": "rsa"})


def _confused() -> str:
    """Signed by HMAC with the public key as the secret."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 300, "scope": "admin"}
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims]
    signed = b".".join(base64url_encode(json.dumps(part).encode()) for part in parts)
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = base64url_encode(hmac.new(public, signed, hashlib.sha256).digest())
    return (signed + b"." + mac).decode()


@pytest.mark.parametrize(
    "token",
    [
        lambda: sign(OTHER),
        lambda: sign(kid="ec"),
        lambda: sign(kid="gone"),
        lambda: sign(kid=None),
        lambda: sign(EC, "ES256", "rsa"),
        lambda: sign(algorithm="RS512"),
        _none,
        _confused,
        lambda: sign(iss="https://evil.example"),
        lambda: sign(iss=None),
        lambda: sign(aud="other"),
        lambda: sign(aud=None),
        lambda: sign(exp=None),
        lambda: sign(sub=None),
        lambda: sign(exp=int(time.time()) - 31),
        lambda: sign(nbf=int(time.time()) + 40),
        lambda: sign()[:-4] + "AAAA",
        lambda: "a.b.c",
        lambda: "..",
        lambda: "x" * 10_000,
        lambda: sign(scope="x" * 9000),
    ],
)
async def test_bad_ones(token: Any) -> None:
    """Whatever is wrong, it is a `WrongJwt`, which repeats nothing of it."""
    async with checking() as (jwts, _, _):
        made = token()
        with pytest.raises(WrongJwt) as caught:
            await jwts.check(made)
        assert made not in str(caught.value)


async def test_clocks_may_differ_a_little() -> None:
    async with checking() as (jwts, _, _):
        await jwts.check(sign(exp=int(time.time()) - 20, nbf=int(time.time()) + 20))


async def test_one_key_needs_no_name() -> None:
    async with checking([jwk(RSA, "rsa")]) as (jwts, _, _):
        assert (await jwts.check(sign(kid=None))).name == "ann"


async def test_a_new_key_is_looked_for_but_not_too_often(autojump_clock: MockClock) -> None:
    """A stranger who names keys that are none makes one request in auth.jwt.refresh, not one each."""
    async with checking([jwk(RSA, "rsa")]) as (jwts, made, served):
        await jwts.check(sign())
        served.append(jwk(EC, "ec"))
        for _ in range(5):
            with pytest.raises(WrongJwt):
                await jwts.check(sign(EC, "ES256", "ec"))
        assert len(made.asked) == 1
        await trio.sleep(31)
        assert (await jwts.check(sign(EC, "ES256", "ec"))).name == "ann"
        for i in range(5):
            with pytest.raises(WrongJwt):
                await jwts.check(sign(kid=f"guess-{i}"))
        assert len(made.asked) == 2


async def test_a_key_that_was_taken_back_is_good_until_the_cache_ends(autojump_clock: MockClock) -> None:
    async with checking([jwk(RSA, "rsa")]) as (jwts, _, served):
        await jwts.check(sign())
        served[:] = [jwk(EC, "ec")]
        await trio.sleep(3500)
        await jwts.check(sign())
        await trio.sleep(200)
        with pytest.raises(WrongJwt):
            await jwts.check(sign())


async def test_keys_hold_while_the_provider_is_down_for_a_day(autojump_clock: MockClock) -> None:
    async with checking([jwk(RSA, "rsa")]) as (jwts, _, served):
        await jwts.check(sign())
        served.clear()
        await trio.sleep(4000)
        with capture_logs() as logs:
            await jwts.check(sign())
        assert logs[0]["event"] == "jwks_not_read"
        await trio.sleep(FORGOTTEN_AFTER)
        with pytest.raises(WrongJwt):
            await jwts.check(sign())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": 1}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "rsa"}]}',
        b'{"keys": [1, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": "AQAB"}, {}]}',
        b'{"keys": [' + b"[" * 50_000,
        b"x" * (MAX_SET + 1),
    ],
)
async def test_what_is_no_set_of_keys(content: bytes) -> None:
    async def answer(path: str, body: bytes) -> Answer:
        return 200, {}, content

    async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
        jwts = Jwts(Jwt(jwks_url=made.url(), issuer=ISSUER, audience=AUDIENCE), http)
        with pytest.raises(WrongJwt):
            await jwts.check(sign())


async def test_a_redirect_to_other_keys_is_not_followed() -> None:
    async with checking() as (_, evil, _):

        async def answer(path: str, body: bytes) -> Answer:
            return 302, {"Location": evil.url()}, b""

        async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(WrongJwt):
                await Jwts(Jwt(jwks_url=made.url(), issuer=ISSUER, audience=AUDIENCE), http).check(sign())
        assert evil.asked == []


async def test_the_api_takes_jwts_beside_tokens(tmp_path: Path) -> None:
    """Bearer JWTs and those that a browser signs in with; wrong ones are counted like wrong tokens."""
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": KEYS}))
    config = (
        '[auth]\nfailures = "2/1m"\n[auth.jwt]\njwks_file = "jwks.json"\n'
        f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n'
    )
    async with listener(tmp_path, config) as made:
        assert (await made.ask("GET", "/v1/streams")).status_code == 401
        assert (await made.ask("GET", "/v1/streams", token=sign())).status_code == 200
        assert (await made.ask("GET", "/v1/streams", token=sign(scope=""))).status_code == 403
        answer = await made.ask("POST", "/v1/session", json={"token": sign()})
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        seconds = int(answer.headers["Set-Cookie"].partition("Max-Age=")[2].partition(";")[0])
        assert 300 <= seconds <= 330
        assert (await made.ask("GET", "/v1/streams", Cookie=cookie)).status_code == 200
        got = [(await made.ask("GET", "/v1/streams", token=sign(OTHER))).status_code for _ in range(3)]
        assert got == [401, 401, 429]
