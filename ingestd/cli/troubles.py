"""What is wrong with a running daemon beside its streams: the database, its webhooks, that it is to stop."""

from __future__ import annotations

from typing import Any

import trio
from attrs import define, field

from ingestd.client.api import Control
from ingestd.errors import IngestdError


@define(eq=False)
class Troubles:
    """Asks a daemon how it is; what it could not be asked (an older one, a smaller scope) is left out."""

    control: Control
    ready: bool | None = None
    #: ``away`` is what matters.
    database: str | None = None
    webhooks: list[dict[str, Any]] = field(factory=list)

    async def look(self) -> None:
        """Ask anew; no failure is raised."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_ready)
            nursery.start_soon(self._look_database)
            nursery.start_soon(self._look_webhooks)

    @property
    def told(self) -> list[str]:
        """A line for each."""
        lines = [] if self.ready in (True, None) else ["it has been told to stop, and takes no publishers"]
        if self.database == "away":
            lines.append("its database is away: what runs goes on, and is written down later")
        for one in self.webhooks:
            if one.get("failing_since"):
                waiting = f", {one['pending']} waiting" if one["pending"] else ""
                why = f": {one['last_error']}" if one["last_error"] else ""
                lines.append(f"webhook {one['name']} fails since {one['failing_since']}{waiting}{why}")
            if one.get("dropped"):
                lines.append(f"webhook {one['name']} has lost {one['dropped']} events")
        return lines

    @property
    def as_json(self) -> dict[str, Any]:
        """For scripts; null is what could not be asked."""
        return {"ready": self.ready, "database": self.database, "webhooks": self.webhooks}

    async def _look_ready(self) -> None:
        try:
            self.ready = await self.control.ready()
        except IngestdError:
            self.ready = None

    async def _look_database(self) -> None:
        try:
            self.database = await self.control.database()
        except IngestdError:
            self.database = None

    async def _look_webhooks(self) -> None:
        try:
            self.webhooks = await self.control.webhooks()
        except IngestdError:
            self.webhooks = []
