"""One request to one endpoint: bounded in time and bytes; no redirects, no proxies, no cookies."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit

import certifi
import httpcore
import trio
from attrs import frozen

from ingestd import __version__
from ingestd.config import Webhook
from ingestd.notify.errors import Undelivered
from ingestd.notify.guard import GuardedBackend, Resolve, explain
from ingestd.notify.schedule import retry_after

_HEADERS = (("Content-Type", "application/json"), ("User-Agent", f"ingestd/{__version__}"))


@frozen(slots=True)
class Answer:
    """What came back. *retry_after* is how many seconds the endpoint asked to be left alone, if it did."""

    status: int
    retry_after: float | None = None


class Post(Protocol):
    """Sends a body with headers to an endpoint."""

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises `Undelivered`."""


@cache
def system_tls() -> ssl.SSLContext:
    """Trusts whom the system trusts (``$SSL_CERT_FILE``), else certifi's authorities. One for all."""
    return ssl.create_default_context(cafile=ssl.get_default_verify_paths().cafile or certifi.where())


class Poster:
    """Posts to *webhook*, over a connection for each request: a kept one may be dead, and events are rare."""

    def __init__(self, webhook: Webhook, resolve: Resolve, tls: ssl.SSLContext | None = None) -> None:
        self._url = webhook.url
        self._host = urlsplit(webhook.url).netloc  # httpcore's own lacks the brackets of an IPv6 address
        self._timeout = webhook.timeout
        self._tls = tls or system_tls()
        self._backend = GuardedBackend(
            resolve, allow_private=webhook.allow_private, patience=webhook.timeout / 2
        )

    async def __call__(self, headers: Mapping[str, str], body: bytes) -> Answer:
        given = [*_HEADERS, ("Host", self._host), *headers.items()]
        with trio.move_on_after(self._timeout):
            try:
                async with (
                    httpcore.AsyncConnectionPool(self._tls, network_backend=self._backend) as pool,
                    pool.stream("POST", self._url, headers=given, content=body) as response,
                ):
                    # Nobody looks at its body, which could be of any length, and somebody else's secret.
                    return _answer(response)
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                raise Undelivered(f"the connection failed: {explain(error)}") from error
        raise Undelivered(f"no answer within the timeout of {self._timeout:g} s")


def _answer(response: httpcore.Response) -> Answer:
    values = [value for name, value in response.headers if name.lower() == b"retry-after"]
    wait = retry_after(values[0].decode("ascii", "replace"), time.time()) if values else None
    return Answer(response.status, wait)
