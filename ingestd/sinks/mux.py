"""``type = "mux"``: push to Mux over RTMPS."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from ingestd.errors import FatalFailure
from ingestd.media.frames import Track
from ingestd.sinks.base import Output, Place
from ingestd.sinks.push import PushSink, masked_url, url_problem

_HOSTS = {
    "global": "global-live.mux.com",
    "us-east": "us-east.live.mux.com",
    "us-west": "us-west.live.mux.com",
    "eu-west": "eu-west.live.mux.com",
}


@frozen(slots=True, kw_only=True)
class MuxSink(PushSink):
    """A Mux live stream, by its stream key: the sink's, or one that ``[mux]`` got for the stream.

    *endpoint* replaces Mux's own, for tests and proxies.
    """

    type: ClassVar[str] = "mux"

    region: Literal["global", "us-east", "us-west", "eu-west"] = "global"
    endpoint: str = field(default="", repr=masked_url)

    @property
    def target_url(self) -> str:
        """The region's ingest, always on port 443: it passes where 1935 is blocked."""
        return self.endpoint or f"rtmps://{_HOSTS[self.region]}:443/app"

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output:
        """As `PushSink.output`; raises `FatalFailure` for a stream that has no key from anywhere."""
        if not (self.key or self.key_file):
            raise FatalFailure(
                f"sinks.{self.name}: this stream has no live stream at Mux, and so no key to push with; "
                "create it through the API, or set key_file"
            )
        return PushSink.output(self, place, tracks)

    def problems(self) -> list[tuple[str, str]]:
        """An unusable key or endpoint. That there must be a key, or ``[mux]``, is `ingestd.mux_check`'s."""
        problems = PushSink.problems(self)
        if self.endpoint and (problem := url_problem(self.endpoint)):
            problems.append(("endpoint", problem))
        return problems
