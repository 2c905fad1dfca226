"""Playback links that are signed and expire: ``?token=EXPIRES.MAC``, for one stream, maybe for one client.

MAC is HMAC-SHA256 (RFC 2104) over a name of this purpose, the stream, the expiry, the client's address and,
if the stream has one, its life, one a line; in URL-safe base64 without padding. The life tells the stream
from another one that has its name later; it is not in the token. A stream of `ingestd.toml` has none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from urllib.parse import quote

from attrs import field, frozen

from ingestd.auth.rates import client

MIN_KEY = 32
"""Characters of a key: as 64 hexadecimal digits or 43 of base64 it has 256 bits."""
_TOKEN = re.compile(r"(\d{1,12})(-ip)?\.([A-Za-z0-9_-]{43})", re.ASCII)
_PURPOSE = "ingestd playback 1"
_LINE = re.compile(r"[^\n\r]+")
_URI = re.compile(r'(URI=")([^"]*)(")')


@frozen(slots=True)
class Playback:
    """Signs and checks with *key*, any text of `MIN_KEY` characters or more that nobody else knows."""

    _key: str = field(repr=False)

    def sign(self, stream: str, expires: float, address: str | None = None, *, life: str = "") -> str:
        """A token for *stream* until *expires* (Unix time); with *address*, for that client only."""
        until = str(int(expires))
        mark = "" if address is None else "-ip"
        return f"{until}{mark}.{self._mac(stream, until, address, life)}"

    def allows(self, token: str, stream: str, address: str, *, life: str = "") -> bool:
        """Whether *token* lets the client at *address* watch *stream* now; compared in constant time."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return False
        mac = self._mac(stream, found[1], address if found[2] else None, life)
        return hmac.compare_digest(mac, found[3]) and time.time() < int(found[1])

    def _mac(self, stream: str, until: str, address: str | None, life: str) -> str:
        whom = "" if address is None else client(address)
        lines = [_PURPOSE, stream, until, whom, *([life] if life else [])]
        message = "\n".join(lines).encode("utf-8", "surrogatepass")
        digest = hmac.new(self._key.encode(), message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def with_token(playlist: bytes, token: str) -> bytes:
    """The media playlist *playlist* with ``?token=`` on each URI of its own directory (RFC 8216, 4.3).

    Players resolve a URI against the playlist's without its query, so it must be in each. All URIs of ours
    are plain file names; one with a scheme, a host or a query is left as it is.
    """
    query = "?token=" + quote(token, safe="")

    def tagged(found: re.Match[str]) -> str:
        return found[1] + _extended(found[2], query) + found[3]

    def line(found: re.Match[str]) -> str:
        text = found[0]
        return _URI.sub(tagged, text) if text.startswith("#") else _extended(text, query)

    return _LINE.sub(line, playlist.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _extended(uri: str, query: str) -> str:
    return uri if not uri.strip() or any(mark in uri for mark in "?#:/") else uri + query
