"""Retention: the oldest finished recordings of a sink go, and journals that nobody needs, by age and size."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
import trio

from ingestd.config import Config
from ingestd.events import Events
from ingestd.live.catalog import Catalog, Entry
from ingestd.live.notes import Notes
from ingestd.registry.directory import Directory
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

_NS = 10**9
_LAST = "pipeline.json"


def excess(sink: FileSink, entries: list[Entry], now: float) -> Iterator[tuple[Entry, str]]:
    """Of *entries*, the oldest first, those that *sink* does not keep at *now* (s since 1970), and why."""
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if sink.keep_for and now - entry.changed / _NS > sink.keep_for:
            yield entry, "keep_for"
        elif sink.keep_size and total > sink.keep_size:
            yield entry, "keep_size"
        else:
            return
        total -= entry.size


def retain(sink: FileSink, place: Place, now: float | None = None) -> list[Path]:
    """Remove what *sink* does not keep of its recordings at *place*; returns what was removed. Blocks.

    Raises nothing: what cannot be removed is told, and tried again next time.
    """
    catalog = Catalog.of(sink, place)
    if catalog is None or not sink.retains:
        return []
    removed = []
    try:
        for entry, reason in excess(sink, catalog.finished(), time.time() if now is None else now):
            if catalog.remove(entry):
                log.info(
                    "recording_removed", stream=place.stream, sink=sink.name, file=entry.name, reason=reason
                )
                removed.append(place.recordings / entry.name)
    except OSError as error:
        log.error(  # noqa: TRY400  the cause is all there is to know
            "recording_not_removed", stream=place.stream, sink=sink.name, cause=error.strerror or str(error)
        )
    return removed


async def retain_forever(config: Config, directory: Directory, events: Events, every: float = 600.0) -> None:
    """`retain` for all streams that have recordings, whether they are live or not; `retain_journals`.

    A stream that *directory* does not have falls under the pipeline of its last session.
    """
    while True:
        await trio.to_thread.run_sync(retain_journals, config)
        for name, last in await trio.to_thread.run_sync(_recorded, config.storage.state_dir):
            stream = directory.get(name)
            pipeline = config.pipelines.get(stream.pipeline if stream is not None else last)
            if pipeline is None:
                continue
            place = place_of(config.storage.state_dir, name, pipeline.id, "")
            for sink in pipeline.sinks:
                if isinstance(sink, FileSink) and sink.retains:
                    for path in await trio.to_thread.run_sync(retain, sink, place):
                        gone = path.relative_to(place.recordings).as_posix()
                        events.tell("recording.removed", name, name=sink.name, file=gone)
        await trio.sleep(every)


def _recorded(state: Path) -> list[tuple[str, str]]:
    """Each stream that has a catalog, and the pipeline of its last session; blocking."""
    return [
        (path.name, (Notes(path / _LAST).load() or {}).get("pipeline", ""))
        for path in sorted((state / "catalog").glob("*"))
    ]


def place_of(state: Path, stream: str, pipeline: str, session: str) -> Place:
    """Where the sinks of *session* of *stream* write, under the state directory *state*."""
    return Place(
        stream=stream,
        pipeline=pipeline,
        recordings=state / "recordings" / stream,
        hls=state / "hls" / stream,
        catalog=state / "catalog" / stream,
        stem=session,
    )


def make_place(place: Place) -> None:
    """Make the directories of *place*, and note for `retain_forever` whose they are; blocking.

    Raises OSError.
    """
    for directory in (place.recordings, place.hls):
        directory.mkdir(parents=True, exist_ok=True)
    if place.catalog is not None:
        place.catalog.mkdir(parents=True, exist_ok=True, mode=0o750)
        Notes(place.catalog / _LAST).save({"pipeline": place.pipeline})


def retain_journals(config: Config, now: float | None = None) -> list[Path]:
    """Remove journals of sessions that have ended, beyond what ``[journal]`` keeps of them. Blocks.

    Raises nothing: what cannot be removed is told, and tried again next time.
    """
    now = time.time() if now is None else now
    keep_for, keep_size = config.journal.keep_for, config.journal.keep_size
    removed = []
    try:
        kept = sorted(_dead_journals(config.storage.state_dir / "journal"))
        total = sum(size for _, _, size in kept)
        for changed, directory, size in kept:
            if keep_for and now - changed > keep_for:
                reason = "keep_for"
            elif keep_size and total > keep_size:
                reason = "keep_size"
            else:
                break
            shutil.rmtree(directory)
            total -= size
            removed.append(directory)
            log.info("journal_removed", directory=str(directory), reason=reason)
    except OSError as error:
        log.error("journal_not_removed", cause=error.strerror or str(error))  # noqa: TRY400
    return removed


def _dead_journals(root: Path) -> Iterator[tuple[float, Path, int]]:
    """Of each session that has ended: when it last changed (s since 1970), its directory, bytes on disk."""
    for note in root.glob("*/*/session.json"):
        saved = Notes(note).load()
        if saved is not None and saved.get("ended"):
            found = [path.stat() for path in note.parent.iterdir()]
            yield (
                max(stat.st_mtime for stat in found),
                note.parent,
                sum(stat.st_blocks * 512 for stat in found),
            )
