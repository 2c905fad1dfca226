"""One request, over real sockets: who is connected to, and what counts as an answer."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from ingestd.notify.errors import Undelivered
from ingestd.notify.guard import MOST_ADDRESSES, Resolver
from ingestd.notify.post import Answer, Poster
from tests.notify.tools import Receiver, Reply, answering, receiving, webhook

NAME = "app.example.org"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def poster(directory: Path, url: str, *addresses: str, tls: Any = None, **options: Any) -> Poster:
    """One that finds *addresses* under any name, or asks the system."""
    resolve = answering(*addresses)[0] if addresses else Resolver(2)
    return Poster(webhook(directory, url, **options), resolve, tls)


async def test_a_request_is_what_was_asked_for(tmp_path: Path) -> None:
    """Path and query, headers and body, byte for byte."""
    async with receiving(receiver := Receiver()) as url:
        answer = await poster(tmp_path, f"{url}?a=b")({"webhook-id": "evt_1"}, b'{"a":1}')
    assert answer == Answer(204)
    [request] = receiver.requests
    assert (request.path, request.body) == ("/hook?a=b", b'{"a":1}')
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("ingestd/")
    assert request.headers["webhook-id"] == "evt_1"
    assert "cookie" not in request.headers


async def test_the_checked_address_is_connected_to(tmp_path: Path, authority: trustme.CA) -> None:
    """The name, which no DNS here knows, is asked for once; TLS and the Host header have it all the same."""
    resolve, asked = answering("127.0.0.1", "10.0.0.1")
    async with receiving(receiver := Receiver(), serving(authority, NAME)) as url:
        url = url.replace("127.0.0.1", NAME)
        send = Poster(webhook(tmp_path, url), resolve, trusting(authority))
        assert await send({}, b"{}") == Answer(204)
    assert asked == [NAME]
    assert receiver.requests[0].asked == NAME
    assert receiver.requests[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    ("addresses", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fd00:ec2::254", "private"),
        ("fe80::1%2", "link-local"),
        ("100.64.0.1", "of a carrier's NAT"),
        ("0.0.0.7", "unspecified"),
        ("8.8.8.8,127.0.0.1", "loopback"),
        (",".join(["8.8.8.8"] * MOST_ADDRESSES) + ",127.0.0.1", "loopback"),
    ],
)
async def test_addresses_that_are_refused(tmp_path: Path, addresses: str, kind: str) -> None:
    """Whatever the name is: one such address in the answer is enough, and nobody is connected to."""
    async with receiving(receiver := Receiver()) as url:
        send = poster(tmp_path, url.replace("127.0.0.1", NAME), addresses, allow_private=False)
        with pytest.raises(Undelivered, match=f"which is {kind}; allow_private = true if it is meant"):
            await send({}, b"{}")
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "0177.0.0.1"]
)
async def test_other_ways_to_write_loopback(tmp_path: Path, host: str) -> None:
    """What the system's resolver makes of them is looked at, not how they are written."""
    async with receiving(receiver := Receiver()) as url:
        with pytest.raises(Undelivered, match="loopback"):
            await poster(tmp_path, url.replace("127.0.0.1", host), allow_private=False)({}, b"{}")
    assert receiver.connections == 0


async def test_a_second_answer_of_the_dns_is_looked_at_too(tmp_path: Path) -> None:
    """Rebinding: the name was public before, and now it is not."""
    resolve, asked = answering("8.8.8.8", "127.0.0.1")
    assert await resolve(NAME, 443) == ["8.8.8.8"]
    async with receiving(receiver := Receiver()) as url:
        send = Poster(webhook(tmp_path, url.replace("127.0.0.1", NAME), allow_private=False), resolve)
        with pytest.raises(Undelivered, match="refused"):
            await send({}, b"{}")
    assert (len(asked), receiver.connections) == (2, 0)


async def test_redirects_are_not_followed(tmp_path: Path) -> None:
    """Wherever they lead: the answer is the 3xx."""
    async with receiving(inner := Receiver()) as secret, receiving(receiver := Receiver()) as url:
        receiver.reply = lambda _request: Reply(307, {"location": secret})
        assert (await poster(tmp_path, url)({}, b"{}")).status == 307
    assert inner.connections == 0


async def test_no_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name itself, and connect to whatever that is."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with receiving(Receiver()) as url:
        assert await poster(tmp_path, url)({}, b"{}") == Answer(204)


async def test_the_next_address_is_tried(tmp_path: Path) -> None:
    """Nothing listens at the first one."""
    async with receiving(Receiver()) as url:
        assert await poster(tmp_path, url, "127.0.0.3,127.0.0.1")({}, b"{}") == Answer(204)


async def test_who_is_not_who_it_should_be(tmp_path: Path, authority: trustme.CA) -> None:
    """Another's certificate, and one by somebody who is not trusted; the reason is told."""
    async with receiving(receiver := Receiver(), serving(authority, "other.example.org")) as url:
        url = url.replace("127.0.0.1", NAME)
        with pytest.raises(Undelivered, match="Hostname mismatch"):
            await poster(tmp_path, url, "127.0.0.1", tls=trusting(authority))({}, b"{}")
        with pytest.raises(Undelivered, match=r"unable to get local issuer|self.signed"):
            await poster(tmp_path, url, "127.0.0.1", tls=trusting(trustme.CA()))({}, b"{}")
    assert receiver.requests == []


async def test_names_that_are_none(tmp_path: Path) -> None:
    """No address, or nothing that could have one."""

    async def nowhere(_host: str, _port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return []

    with pytest.raises(Undelivered, match="it has no address"):
        await Poster(webhook(tmp_path), nowhere)({}, b"{}")
    with pytest.raises(Undelivered, match="cannot be resolved: this is no host name"):
        await poster(tmp_path, f"https://{'a' * 64}.example.org/")({}, b"{}")


async def test_nobody_listens(tmp_path: Path) -> None:
    async with receiving(Receiver()) as url:
        pass
    with pytest.raises(Undelivered, match=r"cannot connect: .*refused"):
        await poster(tmp_path, url)({}, b"{}")


async def test_no_http(tmp_path: Path) -> None:
    """What answers is something else, or hangs up."""

    async def rude(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"220 smtp\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, rude, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(Undelivered, match="the connection failed: "):
            await poster(tmp_path, f"http://127.0.0.1:{port}/")({}, b"{}")
        nursery.cancel_scope.cancel()


async def test_an_answer_that_does_not_come(tmp_path: Path) -> None:
    """The timeout is that of the whole attempt, the DNS included."""
    async with receiving(Receiver(reply=lambda _request: Reply(after=60))) as url:
        with pytest.raises(Undelivered, match=r"no answer within the timeout of 0\.2 s"):
            await poster(tmp_path, url, timeout=0.2)({}, b"{}")

    async def never(_host: str, _port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(Undelivered, match="no answer within the timeout"):
        await Poster(webhook(tmp_path, timeout=0.1), never)({}, b"{}")


@pytest.mark.parametrize("status", [200, 299, 500])
async def test_the_body_of_an_answer_does_not_matter(tmp_path: Path, status: int) -> None:
    """The status does; a body without end is not read."""
    async with receiving(Receiver(reply=lambda _request: Reply(status, endless=True))) as url:
        assert await poster(tmp_path, url)({}, b"{}") == Answer(status)


async def test_how_long_to_wait(tmp_path: Path) -> None:
    async with receiving(Receiver(reply=lambda _request: Reply(429, {"retry-after": "77"}))) as url:
        assert await poster(tmp_path, url)({}, b"{}") == Answer(429, 77.0)


async def test_an_ipv6_address_in_the_url(tmp_path: Path) -> None:
    """Its brackets are the URL's."""
    async with receiving(receiver := Receiver()) as url:
        assert await poster(tmp_path, url.replace("127.0.0.1", "[::1]"), "127.0.0.1")({}, b"{}") == Answer(
            204
        )
    assert receiver.requests[0].headers["host"] == f"[::1]:{receiver.port}"
