"""What the daemon's listeners are called from where a client stands."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from attrs import define
from quart import request

from ingestd.config import Config

#: A host with its port, as a policy can name it. What a client calls itself is not believed.
_NAMED = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  nothing is bound here


@define
class Links:
    """With ``control.public_url`` a proxy has it all at one place. *ingest_port* is known once it listens."""

    config: Config
    ingest_port: int | None = None

    @property
    def http(self) -> str:
        """The control listener's base URL, without a slash at its end: as configured, or as it was called."""
        public = self.config.control.public_url
        return (public or f"{request.scheme}://{request.host}").rstrip("/")

    def publish(self, key: str) -> str:
        """Where the owner of *key* publishes."""
        return f"{self.publishing}/{key}"

    @property
    def publishing(self) -> str:
        """Where publishers connect, without a key."""
        return f"{self._ingest}/stream/live"

    def playlist(self, stream: str) -> str:
        """The media playlist of *stream*."""
        return f"{self.http}/hls/{stream}/index.m3u8"

    def watch(self, stream: str) -> str:
        """Where viewers of *stream* connect to."""
        return f"{self._ingest}/stream/watch/{stream}"

    def media(self, stream: str) -> str:
        """The same as one endless body."""
        return self.watch(stream).replace("ws", "http", 1)

    def page(self, stream: str) -> str:
        """The page that shows *stream*."""
        return f"{self.http}/watch/{stream}"

    def thumbnail(self, stream: str) -> str:
        """What *stream* shows now, as a picture."""
        return f"{self.http}/v1/streams/{stream}/thumbnail.jpg"

    @property
    def ingest_origin(self) -> str:
        """The ingest listener as a source of a Content-Security-Policy (CSP3, 2.3.1), which has no IPv6."""
        url = urlsplit(self._ingest)
        return f"{url.scheme}://{url.netloc}" if _NAMED.fullmatch(url.netloc) else f"{url.scheme}:"

    @property
    def _ingest(self) -> str:
        public = self.config.control.public_url
        if public:
            return public.rstrip("/").replace("http", "ws", 1)
        bind = self.config.ingest.bind
        # Where all interfaces are listened on, the one by which the client came is right.
        host = urlsplit(f"//{request.host}").hostname if bind.host in _ANYWHERE else bind.host
        host = f"[{host}]" if host and ":" in host else host
        return f"ws://{host}:{self.ingest_port or bind.port}"
