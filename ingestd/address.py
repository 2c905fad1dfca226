"""Where a listener listens."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

from attrs import frozen

_Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_LOCALHOST: tuple[_Ip, ...] = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))


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
    def _addresses(self) -> list[_Ip]:
        """What the host stands for; nothing for a name but localhost, since none is looked up."""
        try:
            return [ipaddress.ip_address(self.host)]
        except ValueError:
            return list(_LOCALHOST) if self.host.lower() == "localhost" else []

    def overlaps(self, other: Address) -> bool:
        """Whether one cannot listen on both. 0.0.0.0 is all of IPv4, :: all of IPv6 and nothing else."""
        if self.port == 0 or self.port != other.port:
            return False
        if self.host.lower() == other.host.lower():
            return True
        return any(
            ours.version == theirs.version
            and (ours == theirs or ours.is_unspecified or theirs.is_unspecified)
            for ours in self._addresses
            for theirs in other._addresses
        )

    @property
    def near(self) -> Address:
        """Where a client on this machine finds a listener on it: one on all interfaces by loopback."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here
        return Address(host=loopback.get(self.host, self.host), port=self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
