"""Origins (RFC 6454) and Host headers, as browsers send them: read strictly, compared as a browser does."""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::([0-9]{1,5}))?", re.ASCII)
_LONGEST = 300


@frozen(slots=True)
class Origin:
    """Scheme, host and port; ``str()`` spells it as the ``Origin`` header does."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if _PORTS[self.scheme] == self.port else f":{self.port}")


def parse_origin(text: str) -> Origin | None:
    """``"https://live.example.org"`` or ``"http://[::1]:3000"``; None for anything else, ``null`` too."""
    scheme, colon, authority = text[:_LONGEST].partition("://")
    if not colon or scheme.lower() not in _PORTS:
        return None
    found = parse_host(authority, _PORTS[scheme.lower()])
    return None if found is None else Origin(scheme.lower(), *found)


def parse_host(text: str, default_port: int) -> tuple[str, int] | None:
    """Host, in lower case and without brackets, and port of a ``Host`` header; None for anything else."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    host, port = found[1].lower(), int(found[2] or default_port)
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    return (host, port) if port <= 65535 else None


def is_loopback(host: str) -> bool:
    """Whether a browser that is given *host* goes to its own machine, whatever a DNS server says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_address(host: str) -> bool:
    """Whether *host* is an address and no name: no DNS server can make it mean another machine."""
    return _address(host) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
