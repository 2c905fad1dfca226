"""``type = "rtmp"``: push to any RTMP or RTMPS server."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from attrs import field, frozen

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

    def problems(self) -> list[tuple[str, str]]:
        """Bad URLs and keys, and a URL that leaves open which stream is meant."""
        problems = PushSink.problems(self)
        if problem := url_problem(self.url):
            problems.append(("url", problem))
        elif not (self.key or self.key_file) and "/" not in urlsplit(self.url).path.strip("/"):
            problems.append(
                ("key_file", "is missing: the URL ends with its application; add key_file or key")
            )
        return problems
