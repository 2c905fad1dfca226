"""The opening handshake (RFC 6455 §4.2.1), read and checked before any WebSocket code sees the connection.

A viewer may also ask for a stream without a handshake, as one plain HTTP body.

trio-websocket would wait for ever after malformed HTTP, die of a header that is not ASCII, drop bytes
that follow the request, and carry the path, which is the stream key, through its objects. It gets a
request of our own making instead: the client's ``Sec-WebSocket-Key``, our subprotocol if it was offered,
and nothing else of it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeAlias, TypedDict
from urllib.parse import parse_qs

import h11
import trio
from attrs import field, frozen

from ingestd.sources.protocol import SUBPROTOCOL

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_PUBLISH = re.compile(rb"/(?:stream/live/)?([A-Za-z0-9_-]{1,128})")
_PUBLISH_WITHOUT_KEY = b"/stream/live"
_WATCH = re.compile(rb"/stream/watch/([a-z0-9][a-z0-9_-]{0,63})")
_SUBPROTOCOL = SUBPROTOCOL.encode()
_MAX_HEAD = 16 * 2**10
_NO_PATH = "Nothing is served here. Publish to /stream/live/{key}, watch /stream/watch/{stream}."
_LONGEST_TOKEN = 1024

WATCH = "ingestd.watch.v1"
"""The viewers' subprotocol: chosen if it is offered; nothing depends on it."""


@frozen(slots=True)
class Upgrade:
    """A valid handshake for a publish path: the stream key, and the request for trio-websocket.

    *subprotocol* is the one to be chosen; only with one may the path have no key. *origin* and *host* are
    the headers of these names, *forwarded* are those called ``X-Forwarded-For``.
    """

    key: str | None = field(repr=False)
    request: bytes = field(repr=False)
    subprotocol: str | None = None
    origin: str | None = None
    host: str = ""
    forwarded: tuple[str, ...] = ()


class _Client(TypedDict):
    origin: str | None
    host: str
    forwarded: tuple[str, ...]


@frozen(slots=True)
class WatchRequest:
    """A viewer's request for *stream*, with the *token* of its link; the rest as in `Upgrade`.

    *nonce* is its ``Sec-WebSocket-Key``; None where it wants a plain HTTP body.
    """

    stream: str
    token: str | None = field(repr=False)
    nonce: bytes | None
    subprotocol: str | None = None
    origin: str | None = None
    host: str = ""
    forwarded: tuple[str, ...] = ()


class UpgradeRefused(Exception):
    """Answer with *status* and the text, then close. The text never holds anything that the client sent.

    *origin* is what the log may tell of the client's page.
    """

    def __init__(self, status: HTTPStatus, text: str, *headers: str, origin: str | None = None) -> None:
        super().__init__(text)
        self.origin = origin
        self.status = status
        self.text = text
        self.headers = headers

    def response(self) -> bytes:
        """The HTTP response, complete."""
        body = f"{self.text}\n".encode()
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *self.headers,
        )
        return "\r\n".join((*head, "", "")).encode() + body


async def read_upgrade(stream: trio.abc.ReceiveStream) -> Upgrade | WatchRequest | None:
    """Read one request from *stream* and check it; None when the client left before it was complete.

    Raises `UpgradeRefused`, and `trio.BrokenResourceError` on a reset. Bounded in bytes, not in time.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
    try:
        while (event := parser.next_event()) is h11.NEED_DATA:
            data = await stream.receive_some(_MAX_HEAD)
            if not data:
                return None
            if data[0] == 0x16 and not parser.trailing_data[0]:
                raise _bad("This port speaks plain HTTP: use ws://, or a proxy that ends TLS.")
            parser.receive_data(bytes(data))
        if not isinstance(event, h11.Request):
            return None
        upgrade = _check(event)
        if not isinstance(parser.next_event(), h11.EndOfMessage) or parser.trailing_data[0]:
            raise _bad("Send nothing after the handshake before it is answered (RFC 6455 section 4.1).")
    except h11.RemoteProtocolError as error:
        raise UpgradeRefused(HTTPStatus(error.error_status_hint), "Not a valid HTTP request.") from None
    return upgrade


def _check(request: h11.Request) -> Upgrade | WatchRequest:
    target, _, query = request.target.partition(b"?")
    if watch := _WATCH.fullmatch(target):
        return _check_watch(request, watch[1].decode(), query)
    headers = request.headers
    resumable = _offers(headers, SUBPROTOCOL)
    publish = _PUBLISH.fullmatch(target)
    if publish is None and not (resumable and target == _PUBLISH_WITHOUT_KEY):
        raise UpgradeRefused(HTTPStatus.NOT_FOUND, _NO_PATH)
    _only_get(request)
    nonce = _nonce(request)
    key = publish[1].decode() if publish else None
    subprotocol = SUBPROTOCOL if resumable else None
    return Upgrade(key, _request(nonce, resumable), subprotocol, **_client(headers))


def _check_watch(request: h11.Request, stream: str, query: bytes) -> WatchRequest:
    _only_get(request)
    headers = request.headers
    token = parse_qs(query.decode("latin-1"), max_num_fields=10).get("token", [""])[0]
    if len(token) > _LONGEST_TOKEN:
        raise _bad("This token is too long.")
    upgrades = b"websocket" in _tokens(headers, b"upgrade")
    nonce = _nonce(request) if upgrades else None
    subprotocol = WATCH if upgrades and _offers(headers, WATCH) else None
    return WatchRequest(stream, token or None, nonce, subprotocol, **_client(headers))


def _only_get(request: h11.Request) -> None:
    if request.method != b"GET":
        raise UpgradeRefused(HTTPStatus.METHOD_NOT_ALLOWED, "GET only.", "Allow: GET")


def _nonce(request: h11.Request) -> bytes:
    """The ``Sec-WebSocket-Key`` of what must be a handshake."""
    headers = request.headers
    if request.http_version < b"1.1":
        raise _bad("A WebSocket handshake needs HTTP/1.1.")
    if b"websocket" not in _tokens(headers, b"upgrade") or b"upgrade" not in _tokens(headers, b"connection"):
        raise UpgradeRefused(
            HTTPStatus.UPGRADE_REQUIRED,
            "This is a WebSocket endpoint: connect with ws:// or wss://. "
            "A proxy in front must pass on the Upgrade and Connection headers.",
            "Upgrade: websocket",
        )
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        raise UpgradeRefused(
            HTTPStatus.UPGRADE_REQUIRED, "WebSocket version 13 only.", "Sec-WebSocket-Version: 13"
        )
    nonces = _values(headers, b"sec-websocket-key")
    if len(nonces) != 1 or not _is_nonce(nonces[0]):
        raise _bad("Sec-WebSocket-Key must be one base64 value of 16 bytes.")
    return nonces[0]


def _client(headers: Headers) -> _Client:
    """Where a request comes from."""
    origins = _texts(headers, b"origin")
    return {
        "origin": ", ".join(origins) if origins else None,
        "host": ", ".join(_texts(headers, b"host")),
        "forwarded": tuple(_texts(headers, b"x-forwarded-for")),
    }


def _offers(headers: Headers, subprotocol: str) -> bool:
    return subprotocol.encode() in _items(headers, b"sec-websocket-protocol")


def _request(nonce: bytes, resumable: bool) -> bytes:
    offer = b"Sec-WebSocket-Protocol: " + _SUBPROTOCOL + b"\r\n"
    return (
        b"GET / HTTP/1.1\r\nHost: ingestd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + nonce + b"\r\n" + offer * resumable + b"\r\n"
    )


def _bad(text: str) -> UpgradeRefused:
    return UpgradeRefused(HTTPStatus.BAD_REQUEST, text)


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _texts(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for value in _values(headers, wanted)]


def _tokens(headers: Headers, wanted: bytes) -> list[bytes]:
    return [item.lower() for item in _items(headers, wanted)]


def _items(headers: Headers, wanted: bytes) -> list[bytes]:
    return [item.strip() for value in _values(headers, wanted) for item in value.split(b",")]


def _is_nonce(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except binascii.Error:
        return False
