"""A raw recording: the journal of the source itself, kept at the end under the recordings."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
import trio
from attrs import define, field

from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health, State
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

_SUFFIXES = {"webm": "webm", "matroska": "mkv", "mp4": "mp4"}


@define(eq=False)
class RawRecording:
    """One file per recorder, byte for byte what the publisher sent. Nothing to write: it is the journal."""

    stream: str
    sink: FileSink
    place: Place
    source: Spool
    health: Health
    files: list[Path] = field(factory=list)
    dropped_frames: int = 0
    behind_frames: int = 0

    async def run(self) -> None:
        """Running as long as the source is; failed when its journal is."""
        self.health.attempts = 1
        self.health.enter(State.RUNNING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_journal)
            await self.source.hub.wait_ended()
            nursery.cancel_scope.cancel()
        if self.health.state is State.RUNNING:
            self.health.enter(State.STOPPED)

    async def _watch_journal(self) -> None:
        await self.source.lost.wait()
        self.health.last_error = self.source.journal_error
        self.health.enter(State.FAILED)

    async def keep(self) -> bool:
        """Give each recorder's bytes a name under the recordings, uncopied; False if that fails."""
        try:
            self.files = await trio.to_thread.run_sync(self._link)
        except OSError as error:
            self.health.last_error = f"the journal cannot be kept: {error.strerror}"
            self.health.enter(State.FAILED)
            return False
        if self.source.journal_error:
            self.health.last_error = self.source.journal_error
        log.info("recording_ready", stream=self.stream, files=[file.name for file in self.files])
        return True

    def _link(self) -> list[Path]:
        files = []
        recorders = self.source.journal.recorders if self.source.journal else []
        for number, recorder in enumerate(recorders):
            lives = self.source.intake.lives
            suffix = _SUFFIXES.get(lives[number].doc_type, "bin") if number < len(lives) else "bin"
            name = f"{self.place.stem}-source-{number + 1}.{suffix}"
            file = self.place.recordings / name
            os.link(recorder.path, file)
            files.append(file)
        return files

    @property
    def sent_frames(self) -> int:
        return self.source.hub.next_seq

    @property
    def sent_bytes(self) -> int:
        return self.source.journal.size if self.source.journal else 0
