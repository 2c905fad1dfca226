"""Browsers that are signed in: a bounded table of random ids, with who it is and a token against CSRF."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict

from attrs import field, frozen

from ingestd.auth.identity import Identity

_LONGEST = 128


@frozen(slots=True)
class BrowserSession:
    """Who has signed in, until when (Unix time), and what unsafe requests must show in ``X-CSRF-Token``."""

    identity: Identity
    expires: float
    csrf: str = field(repr=False)

    def is_csrf(self, shown: str) -> bool:
        """Whether *shown* is the token, in constant time."""
        return hmac.compare_digest(self.csrf.encode(), shown.encode("utf-8", "surrogatepass"))


class BrowserSessions:
    """At most *at_most* sessions of *lifetime* seconds; one more ends the oldest.

    They are in memory: after a restart browsers sign in again. An id is found by its SHA-256, so that
    how long a look-up takes tells nothing of the ids that are there.
    """

    def __init__(self, lifetime: float, at_most: int) -> None:
        self._lifetime = lifetime
        self._at_most = at_most
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, identity: Identity) -> tuple[str, BrowserSession]:
        """A new session and its id, which is the cookie's value; it does not outlive *identity*."""
        now = time.time()
        for key in [key for key, session in self._sessions.items() if session.expires <= now]:
            del self._sessions[key]
        while len(self._sessions) >= self._at_most:
            self._sessions.popitem(last=False)
        name = secrets.token_urlsafe(32)
        expires = min(now + self._lifetime, identity.expires or float("inf"))
        session = BrowserSession(identity, expires, secrets.token_urlsafe(32))
        self._sessions[_key(name)] = session
        return name, session

    def get(self, name: str) -> BrowserSession | None:
        """The session of the id *name*, unless it is over."""
        session = self._sessions.get(_key(name)) if len(name) <= _LONGEST else None
        return session if session is not None and session.expires > time.time() else None

    def end(self, name: str) -> None:
        """End the session of the id *name*, if there is one."""
        self._sessions.pop(_key(name), None)


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
