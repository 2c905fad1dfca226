"""What the application is asked (`ingestd.auth.application`), and that it may give no answer."""

from __future__ import annotations

import hashlib
from typing import Literal, Protocol, TypeAlias

from attrs import field, frozen

from ingestd.errors import IngestdError

Action: TypeAlias = Literal["publish", "watch"]


class Unknown(IngestdError):
    """Who may watch cannot be told now, as the text says: come again."""


class ApplicationDown(Unknown):
    """The application gave no answer, and ``auth.when_down`` is "deny"."""


@frozen(slots=True)
class Question:
    """What is asked. *secret* is the stream key or the viewer's token, *remote* the client's address.

    Without a *stream* it is asked whose the key is.
    """

    action: Action
    stream: str | None
    remote: str
    secret: str | None = field(default=None, repr=False)

    @property
    def body(self) -> dict[str, str]:
        """The JSON object that the application gets."""
        body: dict[str, str] = {"action": self.action, "remote": self.remote}
        if self.stream is not None:
            body["stream"] = self.stream
        if self.secret is not None:
            body["key" if self.action == "publish" else "token"] = self.secret
        return body

    @property
    def digest(self) -> bytes:
        """What the answer is remembered by: no secret."""
        parts = [self.action, self.stream or "", self.remote, *([] if self.secret is None else [self.secret])]
        raw = [part.encode("utf-8", "surrogatepass") for part in parts]
        sized = b"".join(len(part).to_bytes(4, "big") + part for part in raw)
        return hashlib.sha256(sized).digest()


class Asked(Protocol):
    """Whoever answers."""

    async def may(self, question: Question) -> bool:
        """Whether it may be. Raises `ApplicationDown`."""
        ...

    async def whose(self, question: Question) -> str | None:
        """The stream that the key is for, None for none. Raises `ApplicationDown`, whatever is configured."""
        ...
