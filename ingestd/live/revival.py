"""Sessions that an earlier daemon left in the middle: each goes on from its journals.

Its note says of the stream what must be known of it where the database, which has the rest, is away: whose
key may publish it, and which of its sinks must not push before they have the stream's own target.
"""

from __future__ import annotations

from contextlib import suppress
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
from ingestd.live.targets import aimed, without_target
from ingestd.registry.directory import Directory, StreamTaken
from ingestd.registry.model import Stream

log = structlog.get_logger(__name__)


@frozen(slots=True)
class Left:
    """What the session *id* of *stream* left in *directory*; *saved* is what it noted."""

    stream: str
    id: str
    directory: Path
    saved: dict[str, Any]


def noted(stream: Stream) -> dict[str, Any]:
    """What a session notes of its *stream*: no secret, and nothing that ``ingestd.toml`` has."""
    key = None if stream.declared else stream.key_sha256.hex()
    created = None if stream.declared else stream.created
    return {"key_sha256": key, "created": created, "targets": [target.sink for target in stream.targets]}


def left_behind(state: Path) -> list[Left]:
    """The sessions under the state directory that have not ended, one a stream.

    Directories in which a daemon was killed before it had written anything are removed. Where there is no
    note, or none that can be read, and something else, that is kept and told. To be called before sessions
    begin; blocking. Raises nothing: what cannot be removed is told, and tried next time.
    """
    found: dict[str, Left] = {}
    for directory in sorted((state / "journal").glob("*/*/")):
        note = Notes(directory / "session.json")
        saved, stream = note.load(), directory.parent.name
        if saved is None:
            _clear(directory, note)
        elif not saved.get("ended"):
            found[stream] = Left(stream, directory.name, directory, saved)
    return list(found.values())


def _clear(directory: Path, note: Notes) -> None:
    try:
        if {path.name for path in directory.iterdir()} <= {note.fresh.name}:
            note.fresh.unlink(missing_ok=True)
            directory.rmdir()
            log.info("journal_removed", directory=str(directory), reason="empty")
        else:
            stream, session = directory.parent.name, directory.name
            log.warning("journal_kept", stream=stream, session=session, directory=str(directory))
    except OSError as error:
        log.error("journal_not_removed", cause=error.strerror or str(error))  # noqa: TRY400


async def revive(
    config: Config, directory: Directory, ffmpeg: str, writer: JournalWriter, events: Events
) -> list[Session]:
    """The sessions that are to go on, for `ingestd.live.streams.Streams.start`.

    Each has its pipeline as it is now. One whose pipeline is gone stays as it is. A stream that *directory*
    does not know yet gets a place in it, until it is filled.
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
        about = left.saved.get("stream", {})
        unaimed: frozenset[str] = frozenset()
        if directory.loaded:
            if (stream := directory.get(left.stream)) is not None:
                pipeline, about = aimed(pipeline, stream.targets), noted(stream)
        else:
            unaimed = without_target(pipeline).union(about.get("targets", ()))
            _make_known(directory, left, about)
        sessions.append(
            Session(
                left.stream, config, pipeline, ffmpeg, writer, events,
                id=left.id, saved=left.saved, about=about, unaimed=unaimed,
            )
        )  # fmt: skip
    return sessions


def _make_known(directory: Directory, left: Left, about: dict[str, Any]) -> None:
    """Let its publisher come back although the database is away."""
    key = about.get("key_sha256")
    if key and directory.get(left.stream) is None:
        # Its last change is that of no row: nothing is stored over what the database has.
        stream = Stream(
            name=left.stream,
            pipeline=left.saved["pipeline"],
            key_sha256=bytes.fromhex(key),
            created=about.get("created") or 0.0,
            updated=0.0,
        )
        with suppress(StreamTaken):  # ingestd.toml has its key now
            directory.put(stream)
