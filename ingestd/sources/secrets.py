"""What a peer has shown to us and no log may repeat: stream keys and tokens."""

from __future__ import annotations


class Secrets:
    """The secrets of one connection; its ``repr`` shows none."""

    def __init__(self, *secrets: str | None) -> None:
        self._secrets: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: str | None) -> None:
        """Know these, too; None and empty ones are none."""
        self._secrets.update(filter(None, secrets))

    def redact(self, text: str) -> str:
        """*text*, which may quote the peer or an exception, without them."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[key]")
        return text
