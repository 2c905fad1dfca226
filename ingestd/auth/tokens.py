"""Bearer tokens, and the file of their SHA-256: a line a token, ``name:scope[,scope]:sha256[:expires]``.

A token is 256 random bits, so there is no dictionary to try against a stolen file, and a slow hash (as
passwords need) would only make each request cost as much as an attack.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from attrs import field, frozen

from ingestd.auth.identity import SCOPES, Identity, Scope

#: So that a scanner for leaked secrets, and a person, see what it is.
PREFIX = "ingestd_"
MAX_LINES = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
#: What may be sent as one; longer ones are not even hashed.
_LONGEST = 1024


class WrongLine(ValueError):
    """A line is not as it should be; the text says what was expected, and repeats none of it."""


@frozen(slots=True)
class TokenLine:
    """A line of the file. *expires* is Unix time, None for never."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)
    expires: float | None = None

    def __str__(self) -> str:
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        line = f"{self.name}:{scopes}:{self.digest.hex()}"
        return line if self.expires is None else f"{line}:{rfc3339(self.expires)}"

    def identity(self) -> Identity:
        """Who holds the token."""
        return Identity(self.name, self.scopes, "token", self.expires, self.digest)


def new_token() -> str:
    """A token: 256 random bits in URL-safe base64, with a prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """What is kept of *token*."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def parse_line(line: str) -> TokenLine:
    """One line that is neither empty nor a comment. Raises `WrongLine`."""
    name, *rest = line.strip().split(":", 3)
    if _NAME.fullmatch(name) is None:
        raise WrongLine('expected a name of 1 to 64 of A-Z a-z 0-9 "_" "-" "." "@" first')
    if len(rest) < 2:
        raise WrongLine("expected name:scope[,scope]:sha256[:expires]")
    scopes = frozenset(scope for scope in SCOPES if scope in rest[0].split(","))
    if len(scopes) != len(rest[0].split(",")):
        raise WrongLine(f"expected scopes of {', '.join(SCOPES)}, each once, with commas between")
    if _DIGEST.fullmatch(rest[1]) is None:
        raise WrongLine("expected the token's SHA-256 as 64 lower-case hexadecimal digits")
    return TokenLine(name, scopes, bytes.fromhex(rest[1]), _expiry(rest[2]) if len(rest) > 2 else None)


def parse_file(text: str) -> tuple[list[TokenLine], list[tuple[int, str]]]:
    """The lines that are right, and for each that is wrong its number (from 1) and what was expected."""
    lines: list[TokenLine] = []
    wrong: list[tuple[int, str]] = []
    names: set[str] = set()
    for number, text_line in enumerate(text.splitlines(), 1):
        if not text_line.strip() or text_line.lstrip().startswith("#"):
            continue
        try:
            line = parse_line(text_line)
        except WrongLine as error:
            wrong.append((number, str(error)))
            continue
        if line.name in names:
            wrong.append((number, "expected each name once: logs and revocations go by it"))
        elif len(lines) >= MAX_LINES:
            wrong.append((number, f"expected at most {MAX_LINES} tokens"))
        else:
            names.add(line.name)
            lines.append(line)
    return lines, wrong


def find(lines: Iterable[TokenLine], token: str, now: float) -> Identity | None:
    """Who holds *token* at Unix time *now*. Looks at all lines, each in constant time."""
    if not 1 <= len(token) <= _LONGEST:
        return None
    return find_digest(lines, digest_of(token), now)


def find_digest(lines: Iterable[TokenLine], digest: bytes, now: float) -> Identity | None:
    """The same for a token that is known by its digest."""
    found = None
    for line in lines:
        if hmac.compare_digest(line.digest, digest):
            found = line
    if found is None or (found.expires is not None and found.expires <= now):
        return None
    return found.identity()


def rfc3339(when: float) -> str:
    """Unix time *when* in UTC, to the second."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _expiry(text: str) -> float:
    if _TIME.fullmatch(text) is not None:
        try:
            return datetime.fromisoformat(text.upper()).timestamp()
        except (ValueError, OverflowError):
            pass
    raise WrongLine('expected a time like "2027-01-31T00:00:00Z" last')
