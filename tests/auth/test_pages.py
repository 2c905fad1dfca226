"""Origins and hosts: which pages may connect, and which names are ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.address import Address
from ingestd.auth.pages import Pages
from ingestd.auth.proxies import Proxies
from ingestd.origins import is_loopback, parse_host, parse_origin

LOCAL = Address(host="127.0.0.1", port=8081)
ALL = Address(host="0.0.0.0", port=8081)  # noqa: S104  nothing is bound
PUBLIC = "https://live.example.org"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://live.example.org", "https://live.example.org"),
        ("HTTPS://Live.Example.ORG:443", "https://live.example.org"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("null", None),
        ("", None),
        ("https://live.example.org/", None),
        ("https://a@live.example.org", None),
        ("https://a b", None),
        ("ftp://live.example.org", None),
        ("chrome-extension://abcdef", None),
        ("http://x:99999", None),
        ("http://x:", None),
        ("http://[::g]", None),
        ("http://a, http://b", None),
    ],
)
def test_origins(text: str, shown: str | None) -> None:
    """As browsers write them, and nothing else."""
    found = parse_origin(text)
    assert (None if found is None else str(found)) == shown


@given(st.text(max_size=400))
def test_any_text_is_an_origin_or_none(text: str) -> None:
    """What is one is spelled so that it reads back to itself."""
    found = parse_origin(text)
    assert found is None or parse_origin(str(found)) == found
    host = parse_host(text, 80)
    assert host is None or 0 <= host[1] <= 65535


@pytest.mark.parametrize(
    ("bind", "public", "listed", "origin", "host", "may"),
    [
        # no page
        (LOCAL, "", (), None, "127.0.0.1:8081", True),
        (LOCAL, "", (), None, "", True),
        # a page of this machine, whatever its port
        (LOCAL, "", (), "http://127.0.0.1:8080", "127.0.0.1:8081", True),
        (LOCAL, "", (), "http://localhost:3000", "127.0.0.1:8081", True),
        (LOCAL, "", (), "http://[::1]:3000", "localhost:8081", True),
        # a stranger's page, also by a name that it made mean us
        (LOCAL, "", (), "https://evil.example", "127.0.0.1:8081", False),
        (LOCAL, "", (), "http://evil.example:8081", "evil.example:8081", False),
        (LOCAL, "", (), "http://127.0.0.1.evil.example", "127.0.0.1:8081", False),
        (LOCAL, "", (), "http://localhost:3000", "evil.example:8081", False),
        (LOCAL, "", (), "null", "127.0.0.1:8081", False),
        (LOCAL, "", (), "", "127.0.0.1:8081", False),
        # behind a proxy
        (LOCAL, PUBLIC, (), PUBLIC, "live.example.org", True),
        (LOCAL, PUBLIC, (), PUBLIC, "127.0.0.1:8081", True),
        (LOCAL, PUBLIC, (), "http://live.example.org", "127.0.0.1:8081", False),
        (LOCAL, PUBLIC, (), "https://app.example.org", "live.example.org", False),
        (LOCAL, PUBLIC, ("https://app.example.org",), "https://app.example.org", "live.example.org", True),
        (LOCAL, "", (), PUBLIC, "live.example.org", False),
        # on all interfaces
        (ALL, "", (), "http://192.0.2.5:8080", "192.0.2.5:8081", True),
        (ALL, "", (), "http://192.0.2.6:8080", "192.0.2.5:8081", False),
        (ALL, "", (), "http://studio.lan:8080", "studio.lan:8081", True),
        (ALL, PUBLIC, (), "http://studio.lan:8080", "studio.lan:8081", False),
        (ALL, "", (), "http://localhost:3000", "192.0.2.5:8081", False),
        # all
        (LOCAL, "", ("*",), "https://evil.example", "127.0.0.1:8081", True),
        (LOCAL, "", ("*",), "null", "127.0.0.1:8081", True),
    ],
)
def test_which_pages_may_connect(
    bind: Address, public: str, listed: tuple[str, ...], origin: str | None, host: str, may: bool
) -> None:
    assert Pages.of(bind, public, listed).may_connect(origin, host) is may


@pytest.mark.parametrize(
    ("bind", "public", "host", "known"),
    [
        (LOCAL, "", "127.0.0.1:8080", True),
        (LOCAL, "", "localhost", True),
        (LOCAL, "", "demo.localhost:8080", True),
        (LOCAL, "", "[::1]:8080", True),
        (LOCAL, "", "[::ffff:127.0.0.1]", True),
        (LOCAL, "", "evil.example:8080", False),
        (LOCAL, "", "192.0.2.1", False),
        (LOCAL, "", "localhost.evil.example", False),
        (LOCAL, "", "", False),
        (LOCAL, "", "a b", False),
        (LOCAL, PUBLIC, "live.example.org", True),
        (LOCAL, PUBLIC, "LIVE.example.org:443", True),
        (LOCAL, PUBLIC, "evil.example", False),
        (ALL, "", "evil.example", True),
        (ALL, PUBLIC, "evil.example", False),
        (ALL, PUBLIC, "192.0.2.1:8080", True),
    ],
)
def test_which_hosts_are_ours(bind: Address, public: str, host: str, known: bool) -> None:
    assert Pages.of(bind, public, ()).knows(host) is known


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://127.0.0.1:3000", "127.0.0.1:8080", False),
        ("http://evil.example", "evil.example", False),
        (PUBLIC, "127.0.0.1:8080", True),
        (PUBLIC, "live.example.org", True),
        ("null", "127.0.0.1:8080", False),
    ],
)
def test_which_pages_are_ours(origin: str, host: str, own: bool) -> None:
    """For a request that a cookie may go with, the port counts."""
    assert Pages.of(LOCAL, PUBLIC, ()).is_own(origin, host) is own


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["1.1.1.1", "198.51.100.7, 10.0.0.9"], "198.51.100.7"),
        ("127.0.0.1", ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        ("::ffff:127.0.0.1", ["198.51.100.7:1234"], "198.51.100.7"),
        ("127.0.0.1", ["[2001:db8::1]:99"], "2001:db8::1"),
        ("127.0.0.1", ["198.51.100.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("unknown", ["198.51.100.7"], "unknown"),
    ],
)
def test_whose_request_it_is_behind_proxies(peer: str, forwarded: list[str], found: str) -> None:
    """The last address that is no proxy of ours: what a client wrote itself stands before it."""
    assert Proxies.of(["127.0.0.1", "10.0.0.0/8"]).client(peer, forwarded) == found


def test_nobody_is_trusted_by_default() -> None:
    assert Proxies.of([]).client("127.0.0.1", ["198.51.100.7"]) == "127.0.0.1"


@given(st.lists(st.text(max_size=100), max_size=5))
def test_any_header_gives_an_address(forwarded: list[str]) -> None:
    assert Proxies.of(["127.0.0.0/8"]).client("127.0.0.1", forwarded)


def test_names_that_no_dns_server_is_asked_for() -> None:
    assert [is_loopback(name) for name in ("localhost", "a.localhost", "127.9.9.9", "::1")] == [True] * 4
    assert not is_loopback("mylocalhost")
