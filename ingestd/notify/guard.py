"""Connections to the public Internet only: the address that was looked at is the one that is connected to.

A name is resolved here, once for each connection, so that a second answer of the DNS, as in DNS rebinding,
is never asked for. TLS and the Host header have the name.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import httpcore
import trio

from ingestd.notify.errors import Undelivered
from ingestd.public_address import not_public

#: The addresses of a host as text, for connections to a port; raises `OSError` where there are none.
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

#: Of one name, how many addresses are tried.
MOST_ADDRESSES = 4


class Resolver:
    """The system's resolver in threads: at most *most* at a time: a dead DNS takes no other's threads."""

    def __init__(self, most: int) -> None:
        self._limiter = trio.CapacityLimiter(most)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of *host*, without double ones; raises `OSError` and `UnicodeError`."""
        found = await trio.to_thread.run_sync(
            socket.getaddrinfo,
            host,
            port,
            0,
            socket.SOCK_STREAM,
            abandon_on_cancel=True,
            limiter=self._limiter,
        )
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """What httpcore connects with. Each address of a name must be public, unless *allow_private*.

    *patience* seconds are shared by the addresses that are tried one after the other.
    """

    def __init__(self, resolve: Resolve, *, allow_private: bool, patience: float) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._patience = patience
        self._backend = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  httpcore's; the whole attempt has one
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to *host*; raises `Undelivered`."""
        addresses = await self._checked(host, port)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._backend.connect_tcp(
                    address, port, self._patience / len(addresses), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise Undelivered(f"cannot connect: {explain(failure)}") from failure

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host.strip("[]"), port)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "this is no host name"
            raise Undelivered(f"the host's name cannot be resolved: {why}") from error
        if not addresses:
            raise Undelivered("the host's name cannot be resolved: it has no address")
        for address in addresses:
            kind = not_public(address)
            if kind is not None and not self._allow_private:
                # One is enough: whoever answers so means no good, or a network of one's own.
                raise Undelivered(
                    f"refused: the host has the address {address}, which is {kind}; "
                    "allow_private = true if it is meant"
                )
        return addresses[:MOST_ADDRESSES]


def explain(error: BaseException | None) -> str:
    """The words of the innermost cause of *error* that has some, on one line."""
    words = type(error).__name__
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = getattr(error, "strerror", None) or str(error)
        if text:
            words = " ".join(text.split())
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__  # httpcore takes causes away
    return "".join(letter for letter in words if letter.isprintable())[:300]
