"""What a fault can lay hands on while a run is live."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from chaos.disk import Disk
from chaos.network import Network
from chaos.publisher import Publisher
from tests.support.daemon import Daemon
from tests.support.rtmps_server import RtmpServer

#: Far more than any recovery takes: beyond it something does not come back.
PATIENCE = 45.0


@frozen(slots=True, eq=False)
class Live:
    """The daemon, its publisher and what surrounds them."""

    daemon: Daemon
    publisher: Publisher
    server: RtmpServer
    network: Network | None
    disk: Disk | None

    async def status(self) -> dict[str, Any]:
        """The stream's status now."""
        return await self.wait_until(lambda _: True)

    async def wait_until(self, condition: Any) -> dict[str, Any]:
        """The first status of which *condition* is true; raises AssertionError if there is none in time."""
        return await self.daemon.wait_until(condition, PATIENCE)

    async def wait_ended(self) -> dict[str, Any]:
        """The status once the session has ended or failed."""
        return await self.daemon.wait_ended(2 * PATIENCE)
