"""What ``ingestd publish`` publishes: a file, the test card, or what comes on standard input."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TypeAlias

import trio
from attrs import field, frozen

from ingestd.cli.card import BitRate, card
from ingestd.client.recorded import index, recorded_chunks
from ingestd.config import FfmpegConfig
from ingestd.errors import IngestdError, MediaError

#: Seconds of media up to a chunk's end (of standard input: since its first), and the chunk.
Timed: TypeAlias = AsyncGenerator[tuple[float, bytes], None]

STDIN = Path("-")
_STDIN_FD = 0
_READ = 64 * 2**10


@frozen(slots=True)
class Material:
    """*file*; or `STDIN`; or, None, the test card that *ffmpeg* draws with *rate*."""

    file: Path | None
    ffmpeg: FfmpegConfig
    speed: float
    loop: bool
    seconds: float | None
    rate: BitRate = field(factory=BitRate)

    @property
    def name(self) -> str:
        """What it is called when it is shown."""
        if self.file is None:
            return "a test card"
        return "standard input" if self.file == STDIN else self.file.name

    @property
    def live(self) -> bool:
        """Whether it comes in its own time, so that it cannot be made to wait."""
        return self.file is None

    async def open(self) -> tuple[float | None, Timed]:
        """How many seconds there will be, if that is known, and the chunks."""
        if self.file is None:
            from ingestd.live.capabilities import find_ffmpeg  # a file needs no FFmpeg

            return self.seconds, card((await find_ffmpeg(self.ffmpeg)).path, self.seconds, self.rate)
        if self.file == STDIN:
            return self.seconds, _standard_input(self.seconds)
        try:
            recorded = await trio.to_thread.run_sync(index, self.file)
        except MediaError as error:
            raise IngestdError(
                f"{self.file}: {error}. Another format is made WebM by: ffmpeg -i {self.file.name} out.webm"
            ) from None
        total = self.seconds if self.loop else min(recorded.duration, self.seconds or recorded.duration)
        return total, recorded_chunks(recorded, speed=self.speed, loop=self.loop, seconds=self.seconds)


async def _standard_input(seconds: float | None) -> Timed:
    """What comes, in the pieces in which it comes."""
    start = None
    while True:
        # In a thread, because a file cannot be waited for; abandoned, because a terminal's read never ends.
        data = await trio.to_thread.run_sync(os.read, _STDIN_FD, _READ, abandon_on_cancel=True)
        start = trio.current_time() if start is None else start
        at = trio.current_time() - start
        if not data or (seconds is not None and at > seconds):
            return
        yield at, data
