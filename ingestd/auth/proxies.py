"""Whose request it is when a proxy passes it on: ``X-Forwarded-For``, as far as its writers are trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from attrs import frozen

_MOST = 50


@frozen(slots=True)
class Proxies:
    """The proxies that are believed, as networks; none by default: then the peer is the client."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[str]) -> Proxies:
        """From the configuration's addresses and networks."""
        return cls(tuple(ipaddress.ip_network(each) for each in networks))

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The client's address: the last one in *forwarded*, from *peer* backwards, that is no proxy of ours.

        *forwarded* are the values of ``X-Forwarded-For`` in their order. Whoever stands before the first
        untrusted address may have written anything there; an entry that is no address ends the search.
        """
        if not self.networks:
            return peer
        hops = [hop.strip() for value in forwarded for hop in value.split(",")][-_MOST:]
        found = peer
        while hops and self._trusts(found):
            hop = _address(hops.pop())
            if hop is None:
                break
            found = str(hop)
        return found

    def _trusts(self, address: str) -> bool:
        found = _address(address)
        return found is not None and any(found in network for network in self.networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, as some proxies write it: with a port, or in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
