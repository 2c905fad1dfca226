"""``/v1/streams/{name}/link``: a link that is signed and ends, for who shows the stream to others."""

from __future__ import annotations

import ipaddress
import time
from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from ingestd.auth.authority import Authority
from ingestd.control.contract import Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.links import Links
from ingestd.control.validation import wrong
from ingestd.live.shapes import Time
from ingestd.live.status import rfc3339


class NewLink(msgspec.Struct, forbid_unknown_fields=True):
    """For how long, and for whom."""

    expires_in: Annotated[
        float, Meta(ge=1, le=315_360_000, description="Seconds, at most `auth.max_link`.")
    ] = 3600.0
    address: (
        Annotated[
            str, Meta(max_length=45, description="Only for the client at this address; an IPv6 /64 is one.")
        ]
        | None
    ) = None


class Link(msgspec.Struct):
    """`token` is in both URLs, and good for both. Null where everybody may watch: then nothing expires."""

    stream: str
    token: str | None
    expires: Time | None
    address: str | None
    hls_url: Annotated[str | None, Meta(description="The playlist; null if its pipeline has no `hls` sink.")]
    watch_url: Annotated[str, Meta(description="Over WebSocket, as live as it gets.")]


def blueprint(desk: Desk, links: Links, authority: Authority) -> Blueprint:
    routes = Routes("watch_links", "Playback")
    auth = authority.config

    @routes.post(
        "/v1/streams/<name>/link", "Sign a link to watch it", scope="publish", body=NewLink,
        answers=[ok(Link)], problems=(404, 409, 503),
    )  # fmt: skip
    async def link(name: str, body: NewLink) -> Link:
        """Nothing is kept: a link is good until it expires or the stream is deleted. 409 with
        `auth.playback` = `ask`, where the application makes its own.
        """
        stream = desk.get(name)
        if auth.playback == "ask":
            text = 'auth.playback = "ask": the application lets viewers in by tokens of its own'
            raise Refusal(409, text)
        if body.expires_in > auth.max_link:
            raise wrong("expires_in", f"expected at most {auth.max_link:.0f} seconds (auth.max_link)")
        if body.address is not None and not _is_address(body.address):
            raise wrong("address", "expected an IP address")
        token = expires = address = None
        if auth.playback == "signed" and authority.playback is not None:
            until, address = int(time.time() + body.expires_in), body.address
            token, expires = authority.playback.sign(name, until, address, life=stream.life), rfc3339(until)
        query = "" if token is None else f"?token={token}"
        return Link(
            stream=name,
            token=token,
            expires=expires,
            address=address,
            hls_url=links.playlist(name) + query if desk.has_hls(stream) else None,
            watch_url=links.watch(name) + query,
        )

    return routes.blueprint


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
