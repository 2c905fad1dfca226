"""A publisher that sends as fast as it is let: what the daemon keeps in memory must not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from chaos.card import card
from chaos.checks import Violation
from chaos.outcome import Bench
from chaos.resources import peak_memory
from tests.support.daemon import daemon, publish
from tests.support.packages import program

MIB = 2**20
#: Python, the libraries and the bounds of the configuration below; measured without a flood: 50 MiB.
BOUND = 96 * MIB

_PIPELINE = """
[video]
codec = "copy"
[[sinks]]
type = "file"
format = "mkv"
"""
_CONFIG = '[hub]\nmemory = "4MiB"\n'


@frozen(slots=True)
class Flood:
    """What was sent and the most that was ever in memory, in bytes."""

    sent: int
    peak_memory: int

    def violations(self) -> Iterator[Violation]:
        """Whether the daemon kept within `BOUND`."""
        if self.peak_memory > BOUND:
            yield Violation(
                "memory", f"{self.peak_memory / MIB:.0f} MiB at a flood of {self.sent / MIB:.0f} MiB"
            )


async def flood(bench: Bench, directory: Path, size: int) -> Flood:
    """Send *size* bytes or a little more: one recorder after the other, each the whole card."""
    chunks = (await card(program("ffmpeg"), bench.seconds, 0, bench.work / "cards")).chunks
    recorder = b"".join(chunks)
    times = -(-size // len(recorder))
    with daemon(directory, _PIPELINE, config=_CONFIG, program=bench.program) as running:
        await publish(running.publish_url, chunks * times)
        status = await running.wait_ended()
        assert status["state"] == "ended", status["cause"]
        return Flood(len(recorder) * times, peak_memory(running.process.pid))
