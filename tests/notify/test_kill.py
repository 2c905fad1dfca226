"""SIGKILL at any moment: what is in the outbox is sent."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import trio

from tests.notify.tools import Receiver, Reply, eventually, receiving

ROUNDS, COUNT = 4, 100


def states(directory: Path) -> dict[str, str]:
    """The state of each event in the outbox."""
    with sqlite3.connect(directory / "ingestd.db") as connection:
        found = dict(connection.execute("SELECT event_id, state FROM deliveries").fetchall())
    connection.close()
    return found


async def test_kills(tmp_path: Path) -> None:
    """Killed at random moments, with attempts under way: the last life delivers all that was written."""
    chance = random.Random(7)
    receiver = Receiver(lambda _request: Reply(chance.choice([204, 204, 500]), after=chance.uniform(0, 0.05)))
    async with receiving(receiver) as url:

        async def live(count: int, *, task_status: trio.TaskStatus[trio.Process]) -> None:
            command = [sys.executable, "-m", "tests.notify.victim", str(tmp_path), url, str(count)]
            await trio.run_process(
                command,
                check=False,
                task_status=task_status,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

        answered: set[str] = set()
        for number in range(ROUNDS + 1):
            async with trio.open_nursery() as nursery:
                process: trio.Process = await nursery.start(live, COUNT if number < ROUNDS else 0)
                if number < ROUNDS:
                    await receiver.wait_for(len(receiver.requests) + 1)
                    await trio.sleep(chance.uniform(0, 0.4))
                else:
                    await eventually(lambda: set(states(tmp_path).values()) == {"delivered"})
                process.kill()
            # Nothing is known to a receiver that the outbox does not have.
            answered |= set(receiver.ids)
            assert answered <= states(tmp_path).keys()
    assert set(receiver.ids) == states(tmp_path).keys()
    assert len(answered) > ROUNDS
