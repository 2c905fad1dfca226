"""A daemon whose sessions are old when they begin: ``python -m tests.support.aged SECONDS[,LONGEST] run …``.

The product has no switch for that: the splicer's first offset is replaced in the process, so that a session's
timeline begins at SECONDS instead of 0, and its encoder is told that the program began at 0. LONGEST is how
many seconds a connection may have of its own, instead of 24 days.
"""

from __future__ import annotations

import sys
from typing import Any

from ingestd.cli import main
from ingestd.live import feeder
from ingestd.live.encoder import Encoder
from ingestd.live.splice import Splice, Splicer
from ingestd.media.frames import NS_PER_S, Frame


def age(seconds: int) -> None:
    """Let each session's timeline begin at *seconds*."""
    begin, run = Splicer.begin, Encoder.run

    def later(self: Splicer, first: Frame, offset: int | None = None) -> Splice:
        if self.times == "recorder" and not self._last:
            return Splice(offset=seconds * NS_PER_S - first.timestamp)
        return begin(self, first, offset)

    async def long_running(self: Encoder) -> Any:
        self.program.origin = 0
        await run(self)

    Splicer.begin = later  # type: ignore[method-assign]
    Encoder.run = long_running  # type: ignore[method-assign]


if __name__ == "__main__":
    seconds, _, longest = sys.argv.pop(1).partition(",")
    age(int(seconds))
    if longest:
        feeder._LONGEST = int(longest) * NS_PER_S
    main()
