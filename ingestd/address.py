"""Where a listener listens."""

from __future__ import annotations

import ipaddress

from attrs import frozen


@frozen(slots=True, kw_only=True)
class Address:
    """A listener's address; ``str()`` gives ``host:port`` (IPv6 in brackets)."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect: 127.0.0.0/8, ::1 or localhost, not 0.0.0.0 or ::."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return self.host.lower() == "localhost"
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback

    @property
    def near(self) -> Address:
        """Where a client on this machine finds a listener on it: one on all interfaces by loopback."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here
        return Address(host=loopback.get(self.host, self.host), port=self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
