"""What a publisher passes before its session: its page's origin, the limit on wrong keys, the application."""

from __future__ import annotations

import math

from attrs import frozen

from ingestd.auth.pages import Pages
from ingestd.auth.proxies import Proxies
from ingestd.auth.question import ApplicationDown, Asked, Question
from ingestd.auth.rates import Rates
from ingestd.errors import PublishRefused

#: Close codes; see ``docs/publishing.md``.
REFUSED = 4401
TOO_MANY = 4429
NO_ANSWER = 4500


@frozen(slots=True)
class Gate:
    """Asked by a source, in the order of the methods."""

    pages: Pages
    proxies: Proxies
    failures: Rates
    application: Asked | None = None
    asks_unknown: bool = False

    def hold_back(self, address: str) -> None:
        """Raise `PublishRefused` while the client at *address* has tried too many wrong keys."""
        wait = self.failures.held_back(address)
        if wait:
            raise PublishRefused(TOO_MANY, f"too many wrong stream keys; try again in {math.ceil(wait)} s")

    def failed(self, address: str) -> None:
        """The client at *address* came with a wrong key."""
        self.failures.count(address)

    async def ask(self, stream: str, key: str, address: str) -> None:
        """Ask the application, if there is one. Raises `PublishRefused`."""
        if self.application is None:
            return
        try:
            if await self.application.may(Question("publish", stream, address, key)):
                return
        except ApplicationDown:
            raise PublishRefused(NO_ANSWER, "the application cannot be asked who may publish") from None
        raise PublishRefused(REFUSED, "the application refuses this publisher")

    async def whose(self, key: str, address: str) -> str | None:
        """The stream that the application has for *key*, which is none of ours. Raises `PublishRefused`."""
        if self.application is None or not self.asks_unknown:
            return None
        try:
            found = await self.application.whose(Question("publish", None, address, key))
        except ApplicationDown:
            raise PublishRefused(NO_ANSWER, "the application cannot be asked whose this key is") from None
        # Others may have been found wrong meanwhile: many at a time are not tried for the price of one.
        self.hold_back(address)
        return found
