"""Sessions that an earlier daemon left in the middle: each goes on from its journals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
import trio
from attrs import frozen

from ingestd.config import Config
from ingestd.events import Events
from ingestd.live.journal import JournalWriter
from ingestd.live.notes import Notes
from ingestd.live.session import Session
from ingestd.live.targets import aimed
from ingestd.registry.directory import Directory

log = structlog.get_logger(__name__)


@frozen(slots=True)
class Left:
    """What the session *id* of *stream* left in *directory*; *saved* is what it noted."""

    stream: str
    id: str
    directory: Path
    saved: dict[str, Any]


def left_behind(state: Path) -> list[Left]:
    """The sessions under the state directory that have not ended, one a stream; blocking."""
    found: dict[str, Left] = {}
    for note in sorted((state / "journal").glob("*/*/session.json")):
        directory = note.parent
        saved = Notes(note).load()
        if saved is not None and not saved.get("ended"):
            found[directory.parent.name] = Left(directory.parent.name, directory.name, directory, saved)
    return list(found.values())


async def revive(
    config: Config, directory: Directory, ffmpeg: str, writer: JournalWriter, events: Events
) -> list[Session]:
    """The sessions that are to go on, for `ingestd.live.streams.Streams.start`.

    Each has its pipeline as it is now. One whose pipeline is gone stays as it is.
    """
    sessions = []
    for left in await trio.to_thread.run_sync(left_behind, config.storage.state_dir):
        pipeline = config.pipelines.get(left.saved["pipeline"])
        if pipeline is None:
            log.error(
                "session_not_taken_up", stream=left.stream, session=left.id,
                cause=f"there is no pipeline {left.saved['pipeline']!r}", directory=str(left.directory),
            )  # fmt: skip
            continue
        if (stream := directory.get(left.stream)) is not None:
            pipeline = aimed(pipeline, stream)
        session = Session(left.stream, config, pipeline, ffmpeg, writer, events, id=left.id, saved=left.saved)
        sessions.append(session)
    return sessions
