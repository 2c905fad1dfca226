"""What a spool notes beside its journal, and how a later daemon makes the spool of both again."""

from __future__ import annotations

from typing import Any

import trio
from attrs import asdict, define, frozen

from ingestd.live.intake import Joins, Life
from ingestd.live.journal import Journal
from ingestd.live.notes import Notes


@frozen(slots=True)
class Released:
    """Where a journal begins, now that what came before has been given back.

    Frame *seq* is the first: *skip* frames into the media segment at *offset* of *recorder*. *origin* is
    when the first frame of all is shown (ns), *timeline* where it ended (`Splicer.unstructure`).
    """

    seq: int
    recorder: int
    offset: int
    skip: int
    origin: int | None
    timeline: dict[str, Any]


@define(eq=False)
class SpoolNotes:
    """What cannot be found in the journal itself. Without *notes*, nothing is kept."""

    notes: Notes | None = None
    released: Released | None = None

    async def save(self, lives: list[Life]) -> None:
        """Note how *lives* are placed on the timeline. Raises OSError."""
        if self.notes is not None:
            noted = {
                "released": self.released and asdict(self.released),
                "lives": [life.unstructure() for life in lives],
            }
            await trio.to_thread.run_sync(self.notes.save, noted)

    async def load(self, journal: Journal) -> dict[int, Life]:
        """The noted lives of those that *journal* has, by number; *released* is as it was noted."""
        noted = await trio.to_thread.run_sync(self.notes.load) if self.notes else None
        if noted is None:
            return {}
        self.released = Released(**noted["released"]) if noted["released"] else None
        lives = [Life.structure(saved) for saved in noted["lives"]]
        return {life.recorder: life for life in lives[: len(journal.recorders)]}


def joins(lives: dict[int, Life], number: int) -> Joins:
    """How life *number* joins the one before: as it was noted, or as most do."""
    return lives[number].joins if number in lives else "follows"
