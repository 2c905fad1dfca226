"""What the daemon's listeners are called from where a client stands."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import define
from quart import request

from ingestd.config import Config

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
        return f"{self._ingest}/stream/live/{key}"

    def playlist(self, stream: str) -> str:
        """The media playlist of *stream*."""
        return f"{self.http}/hls/{stream}/index.m3u8"

    def watch(self, stream: str) -> str:
        """Where *stream* is watched over WebSocket."""
        return f"{self._ingest}/stream/watch/{stream}"

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
