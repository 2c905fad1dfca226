"""Which addresses lie in the public Internet: for URLs by others, and for what a DNS answers.

The registries are IANA's "IPv4 / IPv6 Special-Purpose Address Registry" (RFC 6890). They are written out
here because `ipaddress.is_global` says different things in different versions of Python.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

IpAddress: TypeAlias = IPv4Address | IPv6Address

_V4 = {
    IPv4Network("0.0.0.0/8"): "unspecified",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "of a carrier's NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "of a cloud's metadata",  # Azure's is no private one
    IPv4Network("169.254.0.0/16"): "link-local",  # 169.254.169.254: metadata of most clouds
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "reserved",
    IPv4Network("192.0.2.0/24"): "for documentation",
    IPv4Network("192.88.99.0/24"): "of a 6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "for benchmarks",
    IPv4Network("198.51.100.0/24"): "for documentation",
    IPv4Network("203.0.113.0/24"): "for documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_V6 = {
    IPv6Network("::/128"): "unspecified",
    IPv6Network("::1/128"): "loopback",
    IPv6Network(
        "64:ff9b:1::/48"
    ): "of a local NAT64",  # RFC 8215: where in it the IPv4 address is, nobody knows
    IPv6Network("2001::/23"): "reserved",  # Teredo and others
    IPv6Network("2001:db8::/32"): "for documentation",
    IPv6Network("2002::/16"): "of 6to4",
    IPv6Network("3fff::/20"): "for documentation",
    IPv6Network("fc00::/7"): "private",  # fd00:ec2::254: metadata of EC2
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "private",
    IPv6Network("ff00::/8"): "multicast",
}
#: Those whose last 32 bits are an IPv4 address, which is then what counts: mapped, and NAT64 (RFC 6052).
_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
#: All that is global unicast today; what else is there is reserved.
_UNICAST = IPv6Network("2000::/3")


def not_public(address: IpAddress | str) -> str | None:
    """What *address* is ("private", "loopback", …), if it is not one of the public Internet; else None.

    Takes an address as `socket.getaddrinfo` answers it, also with a zone. Raises `ValueError` for a name.
    """
    if isinstance(address, str):
        address = ip_address(address.partition("%")[0])
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _V4.items() if address in network), None)
    # A zone is no part of the address; with one, it is equal to none without.
    address = IPv6Address(int(address))
    if any(address in network for network in _EMBEDDING):
        return not_public(IPv4Address(int(address) & 0xFFFFFFFF))
    for network, kind in _V6.items():
        if address in network:
            return kind
    return None if address in _UNICAST else "reserved"
