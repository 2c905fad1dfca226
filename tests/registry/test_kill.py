"""SIGKILL: what was answered is there afterwards, and nothing is half there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ingestd.registry.database import Database
from ingestd.registry.model import Stream, Target
from ingestd.registry.streams import all_streams
from tests.registry.tools import SEALER

STREAMS = 100

#: Creates and changes streams, each when it is told to by a byte, and says of each when it is stored.
_WRITER = """
import sys, trio
from functools import partial
from pathlib import Path
from attrs import evolve
from ingestd.registry.database import Database
from ingestd.registry.migrations import is_current, migrate
from ingestd.registry.model import Target
from ingestd.registry.streams import add_stream, change_stream
from tests.registry.tools import SEALER, stream

async def main(url, state, *numbers):
    database = Database(url, Path(state))
    await database.open(migrate)
    turn = trio.Semaphore(4)
    async def work(number):
        async with turn:
            await trio.to_thread.run_sync(sys.stdin.buffer.read, 1)
            made = stream(f"s{number:03}", targets=(Target(sink="mux", key=str(number)),))
            await database.run(add_stream, made, SEALER)
            print(f"created {number}", flush=True)
            await database.run(change_stream, evolve(made, title="changed", updated=2.0), SEALER)
            print(f"changed {number}", flush=True)
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(work, int(number))

trio.run(main, *sys.argv[1:])
"""


def killed_after(lines: int, url: str, state: Path, numbers: set[int]) -> Iterator[tuple[int, str]]:
    """What a writer of the streams *numbers* says before it is killed, soon after it has said *lines*."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, url, state, *map(str, numbers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"++++")  # as many at once, and never more: the kill comes in time
        for count, line in enumerate(process.stdout, 1):
            if not line.endswith(b"\n"):
                break  # The kill tore it: not said.
            what, number = line.decode().split()
            yield int(number), what
            if count == lines:
                process.kill()
            elif what == "changed":
                with suppress(BrokenPipeError):  # it has died, or is done
                    process.stdin.write(b"+")
    assert process.returncode in (0, -signal.SIGKILL)


async def stored(url: str, state: Path) -> dict[int, Stream]:
    database = Database(url, state)
    found = await database.open(lambda connection: all_streams(connection, SEALER))
    await database.close()
    return {int(each.name[1:]): each for each in found}


async def test_what_was_answered_survives_a_kill(url: str, tmp_path: Path) -> None:
    """100 creates and 100 changes by writers that are killed one after the other."""
    answered: dict[int, str] = {}
    there: dict[int, Stream] = {}
    chance = random.Random(5)
    lives = 0
    while missing := set(range(STREAMS)) - there.keys():
        lives += 1
        answered.update(killed_after(chance.randint(20, 60), url, tmp_path, missing))
        there = await stored(url, tmp_path)
        for number, what in answered.items():
            found = there[number]
            assert found.targets == (Target(sink="mux", key=str(number)),)
            assert what == "created" or found.title == "changed"
    assert lives >= 4
