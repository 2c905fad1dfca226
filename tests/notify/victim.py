"""Webhooks in a process that is to be killed: ``python -m tests.notify.victim DIRECTORY URL COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from ingestd.config import Config
from ingestd.events import Events
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from tests.notify.tools import QUICK, webhook


async def main(directory: Path, url: str, count: int) -> None:
    """Tell *count* events, one every few milliseconds, and go on delivering."""
    events, database = Events(), Database("", directory)
    config = Config(path=directory, notify=QUICK, webhooks=(webhook(directory, url),))
    await database.open(migrate)
    told = Webhooks.of(config, database, events)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.run)
        for number in range(count):
            events.tell("stream.live", f"cam{number % 3}")
            await trio.sleep(0.005)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
