"""Whether the targets of pushes can be reached; nobody is contacted unless it is asked for."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import trio

from ingestd.config import Config
from ingestd.doctor.finding import Finding, failed, ok
from ingestd.errors import leaves
from ingestd.sinks.push import PushSink

TIMEOUT = 5.0
_PORTS = {"rtmp": 1935, "rtmps": 443}


async def examine(config: Config, *, contact: bool) -> list[Finding]:
    """A finding for each host and port that a declared stream pushes to; with *contact* it was tried."""
    found = _targets(config)
    if not contact:
        names = ", ".join(f"{host}:{port}" for host, port in found)
        return [ok("targets", f"{names}: not tried (--targets does)")] if found else []
    findings: dict[tuple[str, int], Finding] = {}

    async def reach(host: str, port: int) -> None:
        findings[host, port] = await _reach(host, port)

    async with trio.open_nursery() as nursery:
        for host, port in found:
            nursery.start_soon(reach, host, port)
    return [findings[target] for target in found]


def _targets(config: Config) -> list[tuple[str, int]]:
    """The hosts alone: the rest of a target's URL may be secret."""
    targets: dict[tuple[str, int], None] = {}
    for stream in config.streams.values():
        for sink in config.pipelines[stream.pipeline].sinks:
            if isinstance(sink, PushSink):
                url = urlsplit(sink.target_url)
                targets[url.hostname or "", url.port or _PORTS[url.scheme]] = None
    return list(targets)


async def _reach(host: str, port: int) -> Finding:
    """Resolve the name, connect, and close: nothing is sent."""
    check = "target"
    try:
        with trio.fail_after(TIMEOUT):
            await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        text = f"{host} cannot be resolved: {error.strerror or error}"
        return failed(check, text, "check the name in the pipeline, and this machine's DNS")
    except trio.TooSlowError:
        return failed(check, f"{host} was not resolved within {TIMEOUT:g} s", "check this machine's DNS")
    mend = "check the port in the pipeline, and that a firewall lets outgoing connections pass"
    try:
        with trio.fail_after(TIMEOUT):
            stream = await trio.open_tcp_stream(host, port)
            await stream.aclose()
    except OSError as error:
        # One for each address that the name has; Trio's own text repeats the address.
        causes = [leaf for leaf in leaves(error.__cause__ or error) if isinstance(leaf, OSError)]
        why = ", ".join(dict.fromkeys(os.strerror(cause.errno) for cause in causes if cause.errno)) or str(
            error
        )
        return failed(check, f"{host}:{port} refuses connections: {why}", mend)
    except trio.TooSlowError:
        return failed(check, f"{host}:{port} did not answer within {TIMEOUT:g} s", mend)
    return ok(check, f"{host}:{port} takes connections")
