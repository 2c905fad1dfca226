"""Where ``ingestd publish`` publishes to; the key is in nothing that is shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click
from attrs import field, frozen

from ingestd.cli.connect import config_or_defaults, reachable
from ingestd.cli.wording import without_key
from ingestd.names import KEY, KEY_EXPECTED

_PATH = "/stream/live"


@frozen(slots=True)
class Target:
    """*url* to connect to, and the *key*, unless the URL has it at its end."""

    url: str = field(repr=False)
    key: str | None = field(repr=False)

    @property
    def with_key(self) -> str:
        """The URL for plain publishers."""
        if self.key is None:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{self.key}"))

    @property
    def shown(self) -> str:
        """The URL as it may be shown."""
        return without_key(self.with_key)


def target(url: str | None, key: str | None, config_path: Path) -> Target:
    """From the options, and the configuration if they do not tell. Raises `click.UsageError`.

    A key at the end of a URL goes into the first message instead, where that is known to be possible.
    """
    if url is None and key is None:
        raise click.UsageError(
            "where to? Give --url ws://HOST:8081/stream/live/KEY, or the stream's key with --key or "
            "$INGESTD_KEY. (ingestd.toml alone does not tell: it may hold many keys)"
        )
    if key is not None and not KEY.fullmatch(key):
        raise click.BadParameter(KEY_EXPECTED, param_hint="--key")
    if url is None:
        bind = reachable(config_or_defaults(config_path).ingest.bind, "[ingest] bind")
        return Target(f"ws://{bind}{_PATH}", key)
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not parts.path.strip("/"):
        raise click.BadParameter("expected a URL like ws://HOST:8081/stream/live/KEY", param_hint="--url")
    if parts.path.rstrip("/").endswith(_PATH):
        if key is None:
            raise click.BadParameter("it has no key at its end: give one with --key", param_hint="--url")
        return Target(url, key)
    before, _, last = parts.path.rpartition("/")
    if before.endswith(_PATH):
        return Target(urlunsplit(parts._replace(path=before)), last)
    return Target(url, None)
