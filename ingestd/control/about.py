"""``/v1/about``: what a page has to know before it knows who looks at it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from quart import Blueprint, request

from ingestd import __version__
from ingestd.control.access import Access
from ingestd.control.contract import Routes, ok
from ingestd.control.links import Links


class About(msgspec.Struct):
    """The daemon, as anybody may know it."""

    version: str
    publish: Annotated[str, Meta(description="Where publishers connect; the stream key comes behind it.")]
    tokens: Annotated[bool, Meta(description="Whether the API asks for a token.")]
    signed_in: Annotated[bool, Meta(description="Whether this request has the cookie of a browser session.")]
    playback: Annotated[
        Literal["open", "signed", "ask"], Meta(description="What viewers need, as `auth.playback` has it.")
    ]


def blueprint(links: Links, access: Access) -> Blueprint:
    routes = Routes("about", "Pages")

    @routes.get("/v1/about", "What daemon is this?", scope=None, answers=[ok(About)])
    async def about() -> About:
        """Where it takes publishers, and whether one has to sign in: nothing that needs a token."""
        config = access.authority.config
        return About(
            version=__version__,
            publish=links.publishing,
            tokens=config.is_configured,
            signed_in=await access.signed_in(request) is not None,
            playback=config.playback,
        )

    return routes.blueprint
