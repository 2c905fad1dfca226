"""What of all addresses is in the public Internet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.public_address import not_public

REFUSED = {
    "0.0.0.0": "unspecified",  # noqa: S104
    "10.0.0.0": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "of a carrier's NAT",
    "100.100.100.200": "of a carrier's NAT",  # Alibaba's metadata
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "of a cloud's metadata",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",  # Oracle's metadata
    "192.168.1.1": "private",
    "198.19.255.255": "for benchmarks",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::127.0.0.1": "reserved",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::808:808": "of a local NAT64",
    "2001::1": "reserved",
    "2001:db8::1": "for documentation",
    "2002:7f00:1::": "of 6to4",
    "2002:808:808::": "of 6to4",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%2": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "5f00::1": "reserved",
    "4000::1": "reserved",
}
TAKEN = (
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "168.63.129.15", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
    "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
)  # fmt: skip


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_what_is_not_public(address: str, kind: str) -> None:
    """Each is called what it is, the first and the last of a network included."""
    assert not_public(address) == kind


@pytest.mark.parametrize("address", TAKEN)
def test_what_is_public(address: str) -> None:
    """Next to each network that is refused there is one that is not."""
    assert not_public(address) is None


def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        not_public("localhost")


#: IPv6 addresses that begin as one of the special ones do, because few of all do.
_HEADS = [int(ip_address(text.partition("%")[0])) for text in REFUSED if ":" in text]
v6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.builds(
        lambda head, keep, rest: head >> (128 - keep) << (128 - keep) | rest >> keep,
        st.sampled_from(_HEADS), st.integers(1, 128), st.integers(0, 2**128 - 1),
    ),
).map(IPv6Address)  # fmt: skip
v4 = st.one_of(
    st.integers(0, 2**32 - 1),
    st.builds(
        lambda text, offset: (int(IPv4Address(text)) + offset) % 2**32,
        st.sampled_from([text for text in REFUSED if ":" not in text]), st.integers(-2**20, 2**20),
    ),
).map(IPv4Address)  # fmt: skip


@given(v4 | v6)
def test_python_agrees(address: IPv4Address | IPv6Address) -> None:
    """What we take, Python takes for global as well, in its own way; nothing is multicast, loopback, …"""
    if not_public(address) is None:
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global
        assert not any(
            (inner.is_private, inner.is_loopback, inner.is_link_local, inner.is_multicast,
             inner.is_unspecified, inner.is_reserved)
        )  # fmt: skip


@given(v4)
def test_an_address_inside_another_counts(address: IPv4Address) -> None:
    """Mapped, and translated by NAT64: what it is then is what it was."""
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert not_public(IPv6Address(int(IPv6Address(prefix)) | int(address))) == not_public(address)


@given(v4 | v6)
def test_text_and_address_are_the_same(address: IPv4Address | IPv6Address) -> None:
    assert not_public(str(address)) == not_public(address)
