"""What must hold between the keys of ``[auth]`` and ``[control]``, and of the files that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ingestd.auth.playback import MIN_KEY
from ingestd.auth.token_file import read_tokens
from ingestd.auth.tokens import parse_file
from ingestd.config import Auth, Control
from ingestd.credentials import CredentialError, read_secret


def problems(control: Control, auth: Auth) -> Iterator[tuple[str, str]]:
    """Each key that is wrong, and what was expected; never with a secret."""
    if not (control.bind.is_loopback or control.allow_unauthenticated or auth.is_configured):
        yield (
            "control.bind",
            f"{control.bind} can be reached from other machines, and the listener asks nobody who they are; "
            'expected auth.tokens_file ("ingestd token new NAME --scope admin --to FILE" writes one), '
            'a loopback address like "127.0.0.1:8080" with a proxy in front, '
            "or control.allow_unauthenticated = true where the network is trusted",
        )
    url = urlsplit(control.public_url)
    if control.public_url and (url.scheme not in ("http", "https") or not url.hostname or url.query):
        yield "control.public_url", 'expected a URL like "https://live.example.org"'
    yield from _tokens(auth)
    yield from _playback(auth)
    yield from _jwt(auth)


def _tokens(auth: Auth) -> Iterator[tuple[str, str]]:
    if not auth.tokens_file:
        return
    try:
        _, wrong = parse_file(read_tokens(auth.tokens_file))
    except CredentialError as error:
        yield "auth.tokens_file", str(error)
        return
    for number, expected in wrong[:10]:
        yield "auth.tokens_file", f"line {number}: {expected}"


def _playback(auth: Auth) -> Iterator[tuple[str, str]]:
    if auth.unknown_keys == "ask" and not auth.url:
        yield "auth.unknown_keys", '"ask" asks the application; expected its address in auth.url'
    if auth.playback == "ask" and not auth.url:
        yield "auth.playback", '"ask" asks the application; expected its address in auth.url'
    if auth.playback == "signed" and not auth.playback_key_file:
        yield (
            "auth.playback",
            '"signed" needs auth.playback_key_file: a file with a key, which "openssl rand -hex 32" gives',
        )
    if auth.playback_key_file:
        try:
            if len(read_secret(auth.playback_key_file)) < MIN_KEY:
                yield (
                    "auth.playback_key_file",
                    f'expected a key of at least {MIN_KEY} characters, as "openssl rand -hex 32" gives',
                )
        except CredentialError as error:
            yield "auth.playback_key_file", str(error)


def _jwt(auth: Auth) -> Iterator[tuple[str, str]]:
    jwt = auth.jwt
    if not (jwt.jwks_url or jwt.jwks_file):
        return
    if jwt.jwks_url and jwt.jwks_file:
        yield "auth.jwt", "expected one of jwks_url and jwks_file, got both"
    elif jwt.jwks_file and not Path(jwt.jwks_file).is_file():
        yield "auth.jwt.jwks_file", f"there is no file {jwt.jwks_file}"
    if not (jwt.issuer and jwt.audience):
        yield (
            "auth.jwt",
            "expected issuer and audience, so that a token that was made for somebody else is not good here",
        )
