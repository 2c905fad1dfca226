"""A spool: bytes come in, are journaled, and go out as frames of a hub. Sources and encoders have one each."""

from __future__ import annotations

from typing import Literal

import structlog
import trio
from attrs import define, field

from ingestd.config import HubConfig, JournalConfig
from ingestd.live.hub import Hub
from ingestd.live.intake import Intake
from ingestd.live.journal import Journal, JournalFull
from ingestd.live.replay import JournalReplay
from ingestd.live.splice import Splicer

log = structlog.get_logger(__name__)


@define(eq=False)
class Spool:
    """*keep* is for a journal that is a recording: nothing of it is given back while the session lives."""

    stream: str
    name: str
    journal: Journal | None
    intake: Intake
    hub: Hub
    on_full: Literal["end", "continue"]
    max_age: float
    keep: bool = False
    journal_error: str | None = None
    _pending_start: bool = field(default=False)

    @classmethod
    def create(
        cls,
        stream: str,
        name: Literal["source", "program"],
        journal: Journal,
        hub: HubConfig,
        config: JournalConfig,
        *,
        max_frame: int,
        keep: bool = False,
    ) -> Spool:
        """A spool with a hub of its own. A program's frames are in place on the timeline already."""
        intake = Intake(Splicer("recorder" if name == "source" else "timeline"), max_frame)
        made = Hub(hub)
        made.replay = JournalReplay(journal, intake, made)
        # The source's journal is the acknowledgement; the program's can be made again from it.
        on_full = config.on_full if name == "source" else "continue"
        return cls(stream, name, journal, intake, made, on_full, config.max_age, keep)

    async def take(self, chunk: bytes) -> None:
        """Accept *chunk* and publish its frames.

        On return it is acknowledged, unless the journal was given up. Raises `MediaError` (the
        chunk is in the journal all the same) and, under the policy ``end``, `JournalFull`.
        """
        pieces = []
        error = None
        try:
            pieces = self.intake.feed(chunk)
        except Exception as caught:  # noqa: BLE001  re-raised below, after the bytes are safe
            error = caught
        await self._journal(chunk)
        for piece in pieces:
            self.hub.publish(piece.configuration, tuple(piece.frames), tuple(piece.marks))
        if error is not None:
            raise error

    async def _journal(self, chunk: bytes) -> None:
        if self.journal is None:
            return
        try:
            await self.journal.append(chunk, self.intake.starts)
        except JournalFull as full:
            self.journal_error = str(full)
            log.error(
                "journal_full", stream=self.stream, spool=self.name, cause=str(full), policy=self.on_full
            )
            if self.on_full == "end":
                raise
            # What is there stays readable for those who lag; nothing is added, nothing acknowledged.
            self.journal.close()
            self.journal = None
            self.hub.replay = None

    def begin(self) -> None:
        """The bytes to come are a new container's, whatever the last one left unfinished."""
        self.intake.begin()

    async def trim(self) -> None:
        """Give back what no reader of the hub needs any more, unless the journal is to be kept."""
        if self.keep or self.journal is None:
            return
        mark = self.hub.replayable_mark(min(self.hub.slowest_cursor(), self.hub.window_start))
        if mark is None or mark.position is None:
            return
        life = self.intake.lives[mark.position.recorder]
        await self.journal.release(mark.position.recorder, mark.position.offset, keep=life.header_size)
        self.hub.forget_before(mark.seq)

    async def trim_forever(self, every: float = 5.0) -> None:
        """`trim` from time to time, until cancelled."""
        while True:
            await trio.sleep(every)
            await self.trim()

    def statistics(self) -> dict[str, object]:
        journal = self.journal.statistics() if self.journal else None
        return {
            **self.hub.statistics(),
            "discarded_frames": self.intake.discarded,
            "journal_bytes": journal.kept_bytes if journal else 0,
            "journal_error": self.journal_error,
        }
