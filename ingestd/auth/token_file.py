"""The tokens file as it is on disk now: a token that is taken out of it is revoked, without a restart."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog
import trio
from attrs import define, field

from ingestd.auth.identity import Identity
from ingestd.auth.tokens import TokenLine, find, find_digest, parse_file
from ingestd.credentials import CredentialError, locate

log = structlog.get_logger(__name__)

MAX_SIZE = 2 * 2**20
_State = tuple[int, int, int, int]


class TokensUnusable(CredentialError):
    """The file cannot be read; the text names it, and says why."""


def read_tokens(spec: str) -> str:
    """The text of the file behind ``auth.tokens_file``. Raises `TokensUnusable` and `CredentialError`."""
    path = locate(spec)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise TokensUnusable(
            f"cannot read {path}: {error.strerror}; expected a file of tokens, "
            'which "ingestd token new --to FILE" writes'
        ) from None
    if len(content) > MAX_SIZE:
        raise TokensUnusable(f"{path} is larger than {MAX_SIZE // 2**20} MiB; expected one line a token")
    return content.decode("utf-8", "replace")


@define(eq=False)
class TokenFile:
    """The tokens behind *spec*, read again whenever the file has changed.

    While it cannot be read there are no tokens. A line that is wrong is none; the others hold.
    """

    spec: str
    _lines: list[TokenLine] = field(factory=list, repr=False)
    _state: _State | None = None
    _trouble: str = ""

    async def find(self, token: str) -> Identity | None:
        """Who holds *token*, if it is good now."""
        await self._refresh()
        return find(self._lines, token, time.time())

    async def still(self, identity: Identity) -> Identity | None:
        """The same token's holder, as the file has it now: its scopes may have changed."""
        await self._refresh()
        return find_digest(self._lines, identity.digest or b"", time.time())

    async def _refresh(self) -> None:
        trouble = ""
        try:
            found = await trio.to_thread.run_sync(_read_if_changed, self.spec, self._state)
            if found is None:
                return
            self._state, text = found
            self._lines, wrong = parse_file(text)
            if wrong:
                number, expected = wrong[0]
                trouble = f"line {number}: {expected}"
        except CredentialError as error:
            self._state, self._lines, trouble = None, [], str(error)
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                log.error("tokens_wrong", cause=trouble, tokens=len(self._lines))
                return
        if self._state is not None and not trouble:
            log.info("tokens_read", tokens=len(self._lines))


def _read_if_changed(spec: str, known: _State | None) -> tuple[_State, str] | None:
    path = locate(spec)
    before = _state(path)
    if before == known:
        return None
    return before, read_tokens(spec)


def _state(path: Path) -> _State:
    try:
        found = os.stat(path)  # noqa: PTH116  follows systemd's links
    except OSError as error:
        raise TokensUnusable(f"cannot read {path}: {error.strerror}") from None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
