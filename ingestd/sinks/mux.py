"""``type = "mux"``: push to Mux over RTMPS."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from ingestd.sinks.push import PushSink, masked_url, url_problem

_HOSTS = {
    "global": "global-live.mux.com",
    "us-east": "us-east.live.mux.com",
    "us-west": "us-west.live.mux.com",
    "eu-west": "eu-west.live.mux.com",
}


@frozen(slots=True, kw_only=True)
class MuxSink(PushSink):
    """A Mux live stream, by its stream key. *endpoint* replaces Mux's own, for tests and proxies."""

    type: ClassVar[str] = "mux"

    region: Literal["global", "us-east", "us-west", "eu-west"] = "global"
    endpoint: str = field(default="", repr=masked_url)

    @property
    def target_url(self) -> str:
        """The region's ingest, always on port 443: it passes where 1935 is blocked."""
        return self.endpoint or f"rtmps://{_HOSTS[self.region]}:443/app"

    def problems(self) -> list[tuple[str, str]]:
        """No key, or an unusable endpoint."""
        problems = PushSink.problems(self)
        if not (self.key or self.key_file or self.per_stream):
            expected = "is missing: expected key_file (or key) with Mux's stream key, or per_stream = true"
            problems.append(("key_file", expected))
        if self.endpoint and (problem := url_problem(self.endpoint)):
            problems.append(("endpoint", problem))
        return problems
