"""A raw recording: the journal of the source itself, kept at the end under the recordings."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog
import trio
from attrs import define, field

from ingestd.events import Tell, silent
from ingestd.live.catalog import Catalog
from ingestd.live.retention import retain
from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health, State
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

_SUFFIXES = {"webm": "webm", "matroska": "mkv", "mp4": "mp4"}


@define(eq=False)
class RawRecording:
    """One file per recorder, byte for byte what the publisher sent. Nothing to write: it is the journal.

    *began* (seconds since 1970) is in the files' names where the sink's path asks for it.
    """

    stream: str
    sink: FileSink
    place: Place
    source: Spool
    health: Health
    files: list[Path] = field(factory=list)
    began: float = field(factory=time.time)
    dropped_frames: int = 0
    behind_frames: int = 0
    tell: Tell = silent

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
        """Give each recorder's bytes a name under the recordings, uncopied; False if that fails.

        What has its name already keeps it: to call this again, in a later daemon, too, changes nothing.
        """
        try:
            self.files = await trio.to_thread.run_sync(self._link)
        except OSError as error:
            self.health.last_error = f"the journal cannot be kept: {error.strerror}"
            self.health.enter(State.FAILED)
            return False
        if self.source.journal_error:
            self.health.last_error = self.source.journal_error
        log.info("recording_ready", stream=self.stream, files=self.names)
        for file, name in zip(self.files, self.names, strict=True):
            size = (await trio.Path(file).stat()).st_size
            self.tell("recording.ready", name=self.sink.name, file=name, size=size)
        for path in await trio.to_thread.run_sync(retain, self.sink, self.place):
            gone = path.relative_to(self.place.recordings).as_posix()
            self.tell("recording.removed", name=self.sink.name, file=gone)
        return True

    def _link(self) -> list[Path]:
        files = []
        catalog = Catalog.of(self.sink, self.place)
        recorders = self.source.journal.recorders if self.source.journal else []
        for number, recorder in enumerate(recorders):
            lives = self.source.intake.lives
            suffix = _SUFFIXES.get(lives[number].doc_type, "bin") if number < len(lives) else "bin"
            stem = self.sink.stem(self.place, number + 1, self.began)
            counted = "" if "{part}" in self.sink.path else f"-{number + 1}"
            name = f"{stem}-source{counted}.{suffix}"
            file = self.place.recordings / name
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(recorder.path, file)
            except FileExistsError:
                # A daemon that died before the journal was removed may have made this very link.
                if not file.samefile(recorder.path):
                    raise
            if catalog is not None:
                catalog.note(name, file)
            files.append(file)
        return files

    @property
    def names(self) -> list[str]:
        """The files' paths below the stream's recordings."""
        return [file.relative_to(self.place.recordings).as_posix() for file in self.files]

    @property
    def sent_frames(self) -> int:
        return self.source.hub.next_seq

    @property
    def sent_bytes(self) -> int:
        return self.source.journal.size if self.source.journal else 0
