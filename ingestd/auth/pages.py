"""Which web pages may talk to a listener: a browser says where a page is from, and a script cannot lie there.

A request without an ``Origin`` is no page's, and is held back by nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ingestd.address import Address
from ingestd.origins import Origin, is_address, is_loopback, parse_host, parse_origin

ALL = "*"


@frozen(slots=True)
class Pages:
    """A listener as pages see it: its address, the public URL's origin, and the *origins* that are listed."""

    bind: Address
    public: Origin | None
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, bind: Address, public_url: str, origins: Iterable[str]) -> Pages:
        """From the configuration; what follows the host in *public_url* does not matter."""
        scheme, _, rest = public_url.partition("://")
        return cls(bind, parse_origin(f"{scheme}://{rest.partition('/')[0]}"), frozenset(origins))

    def is_listed(self, origin: str) -> bool:
        """Whether *origin* is listed by name, which is more than ``*``."""
        found = parse_origin(origin)
        return found is not None and str(found) in self.origins

    @property
    def are_all_listed(self) -> bool:
        return ALL in self.origins

    def is_own(self, origin: str, host: str) -> bool:
        """Whether a page of *origin* is ours, to a request for *host*: the public URL's, or that host's.

        Host and port must be those of the request; the scheme is not compared, since TLS ends at a proxy.
        """
        found = parse_origin(origin)
        if found is None:
            return False
        if self.public is not None and found == self.public:
            return True
        return self.knows(host) and parse_host(host, found.port) == (found.host, found.port)

    def may_connect(self, origin: str | None, host: str) -> bool:
        """Whether a WebSocket may be opened: by no page, by one of the same host, or by one that is listed.

        The port is not compared, because pages come from another listener than this one. A page of this
        machine (a development server) may talk to a daemon that it has found at a loopback name.
        """
        if origin is None or self.are_all_listed or self.is_listed(origin):
            return True
        found, asked = parse_origin(origin), parse_host(host, 0)
        if found is None:
            return False
        if self.public is not None and found == self.public:
            return True
        if asked is None or not self.knows(host):
            return False
        return found.host == asked[0] or (is_loopback(found.host) and is_loopback(asked[0]))

    def knows(self, host: str) -> bool:
        """Whether *host*, of a request's ``Host`` header, is one of ours.

        A page of a stranger can make its own name mean our address (DNS rebinding), but it cannot make
        its browser send another name than that. A listener on loopback has loopback names and the public
        URL's. Of one beyond, addresses are known; and all names, unless there is a public URL.
        """
        found = parse_host(host, 0)
        if found is None:
            return False
        name = found[0]
        if is_loopback(name) or name == self.bind.host.lower():
            return True
        if self.public is not None and name == self.public.host:
            return True
        return not self.bind.is_loopback and (is_address(name) or self.public is None)
