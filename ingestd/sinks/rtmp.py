"""``type = "rtmp"``: push to any RTMP or RTMPS server."""

from __future__ import annotations

from typing import ClassVar, Self
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from ingestd.sinks.push import PushSink, masked_url, url_problem


@frozen(slots=True, kw_only=True)
class RtmpSink(PushSink):
    """``url`` is ``rtmp[s]://host[:port]/app`` with *key* or *key_file*, or holds the key itself."""

    type: ClassVar[str] = "rtmp"

    url: str = field(repr=masked_url)

    @property
    def target_url(self) -> str:
        """The URL as it was given."""
        return self.url

    def aimed(self, key: str, url: str | None) -> Self:
        """Without *key* the *url* holds it."""
        return evolve(PushSink.aimed(self, key, url), url=url or self.url)

    def problems(self) -> list[tuple[str, str]]:
        """Bad URLs and keys, and a URL that leaves open which stream is meant."""
        problems = PushSink.problems(self)
        if problem := url_problem(self.url):
            problems.append(("url", problem))
        elif not (self.key or self.key_file or self.per_stream or _names_stream(self.url)):
            expected = "add key_file, key or per_stream = true"
            problems.append(("key_file", f"is missing: the URL ends with its application; {expected}"))
        return problems


def _names_stream(url: str) -> bool:
    return "/" in urlsplit(url).path.strip("/")
