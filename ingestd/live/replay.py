"""Frames from the journal again: for a subscriber that fell out of the hub's window."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from ingestd.live.batch import Batch, Mark, Position, weight
from ingestd.live.hub import Hub
from ingestd.live.intake import Intake, Life, Piece
from ingestd.live.journal import Journal, JournalReleased
from ingestd.live.splice import Splice
from ingestd.media.frames import Frame

_READ = 256 * 2**10


@define(eq=False)
class JournalReplay:
    """Replays *hub*'s frames from *journal*, to which *intake* fed it: same numbers, same frames."""

    journal: Journal
    intake: Intake
    hub: Hub

    def read(self, mark: Mark) -> Reader:
        """A reader from *mark* on, which must have a position."""
        assert mark.position is not None  # noqa: S101  the hub offers no other
        recorded = _Recorded(self.intake.lives, mark.position.recorder, self.intake.splicer.fresh_starts)
        intake = Intake(recorded, self.intake.max_frame, count=mark.seq)
        return Reader(self, mark.position, mark.seq, recorded, intake)


@define(eq=False)
class _Recorded:
    """The splices that the live run found, by life."""

    lives: list[Life]
    life: int
    fresh_starts: bool

    def begin(self, first: Frame, offset: int | None = None) -> Splice:  # noqa: ARG002
        return self.lives[self.life].splice or Splice()

    def passed(self, frame: Frame) -> None:
        pass


@define(eq=False)
class Reader:
    """One pass over the journal from *position*, the place of frame number *seq*."""

    _replay: JournalReplay
    _position: Position
    _seq: int
    _recorded: _Recorded
    _intake: Intake
    _opened: bool = False
    _ready: deque[Batch] = field(factory=deque)

    async def next(self) -> Batch | None:
        """The next batch; None at the journal's end as it is now, or where it has been given back.

        Cancellation loses nothing: the next call goes on.
        """
        try:
            return await self._next()
        except JournalReleased:
            return None

    async def _next(self) -> Batch | None:
        journal = self._replay.journal
        while not self._ready:
            if not self._opened:
                await self._open()
            position = self._position
            data = await journal.read(position.recorder, position.offset, _READ)
            if data:
                self._position = Position(position.recorder, position.offset + len(data), 0)
                self._emit(self._intake.feed(data))
            elif position.recorder + 1 < len(journal.recorders):
                self._position = Position(position.recorder + 1, 0, 0)
                self._emit(self._intake.close())
                self._recorded.life += 1
                self._intake.begin(self._replay.intake.lives[self._recorded.life].joins)
            else:
                return None
        return self._ready.popleft()

    async def _open(self) -> None:
        """Read the init segment of the position's life, then go on at the position."""
        position = self._position
        life = self._replay.intake.lives[position.recorder]
        self._intake.feed(await self._replay.journal.read(position.recorder, 0, life.header_size))
        self._intake.skip = position.skip
        self._opened = True

    def _emit(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if not piece.frames:
                continue
            configuration = self._replay.hub.configuration_at(self._seq) or piece.configuration
            frames = tuple(piece.frames)
            self._ready.append(Batch(configuration, frames, self._seq, weight(frames)))
            self._seq += len(piece.frames)
