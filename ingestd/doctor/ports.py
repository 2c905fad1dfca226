"""Whether the listeners' addresses are free, or who has them."""

from __future__ import annotations

import errno
import socket
from typing import Any

import trio

from ingestd.address import Address
from ingestd.client.api import ApiError, Control, DaemonUnreachable
from ingestd.config import Config
from ingestd.doctor.finding import Finding, failed, ok

_MENDS = {
    errno.EADDRINUSE: "stop what listens there (`ss -ltnp` names it), or set another",
    errno.EACCES: "choose a port from 1024 on, or give the daemon CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "choose an address of this machine (`ip addr` lists them), or 0.0.0.0 for all",
}


async def examine(config: Config) -> list[Finding]:
    """A finding a listener. Nothing is bound for longer than it takes to see that it can be."""
    daemon: dict[str, Any] | None = None
    ingest = await trio.to_thread.run_sync(_bind, config.ingest.bind)
    control = await trio.to_thread.run_sync(_bind, config.control.bind)
    if control is not None and control.errno == errno.EADDRINUSE:
        daemon = await _daemon(config.control.bind)
    return [
        _listener("ingest", config.ingest.bind, ingest, daemon),
        _listener("control", config.control.bind, control, daemon),
    ]


def _bind(address: Address) -> OSError | None:
    """What keeps one from listening on *address*, as the daemon would (`trio.open_tcp_listeners`)."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(where)
    except OSError as error:
        return error
    return None


async def _daemon(bind: Address) -> dict[str, Any] | None:
    """``/healthz`` of the daemon at *bind*; None if it is not an ingestd that has the port."""
    try:
        async with Control(f"http://{bind.near}") as control:
            health = await control.health()
    except (DaemonUnreachable, ApiError):
        return None
    return health if {"version", "live"} <= health.keys() else None


def _listener(name: str, bind: Address, error: OSError | None, daemon: dict[str, Any] | None) -> Finding:
    check = f"{name} port"
    if error is None:
        return ok(check, f"{bind} is free" if bind.port else f"any free one on {bind.host}")
    if error.errno == errno.EADDRINUSE and daemon is not None:
        live = f"{daemon['live']} live stream{'' if daemon['live'] == 1 else 's'}"
        return ok(check, f"{bind} is in use: ingestd {daemon['version']} runs, with {live}")
    mend = _MENDS.get(error.errno or 0, "choose an address of this machine")
    return failed(check, f"cannot listen on {bind}: {error.strerror}", f"{mend}: [{name}] bind")
