"""Recordings that a dead daemon left as ``.part``: cut to what is whole, made seekable, given their names."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import BinaryIO

import structlog
import trio

from ingestd.errors import IngestdError, MediaError
from ingestd.live.catalog import Catalog
from ingestd.live.recording import PART, publish
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import MAX_HEAD, UNKNOWN, read_head
from ingestd.media.frames import Header
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer

log = structlog.get_logger(__name__)

_READ = 2**20


async def recover(
    directory: Path,
    ffmpeg: str,
    catalog: Path | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> list[Path]:
    """Finish the recordings under *directory* that a dead daemon left; returns the files made of them.

    *catalog* has a directory a stream, with the lists of what was begun. Started once it knows which:
    what is begun later is not touched. If cancelled, what is not yet finished is left to the next time.
    """
    parts = await trio.to_thread.run_sync(lambda: sorted(directory.rglob(f"*{PART}")))
    task_status.started()
    made = []
    for part in parts:
        file = part.with_name(part.name.removesuffix(PART))
        try:
            await trio.to_thread.run_sync(repair, part)
            await publish(part, file, ffmpeg, partial(_note, catalog, directory, file))
        except (OSError, ValueError, IngestdError) as error:
            log.error("recording_not_recovered", file=str(part), cause=str(error))  # noqa: TRY400
        else:
            log.info("recording_recovered", file=file.name)
            made.append(file)
    log.info("recovery_finished", found=len(parts), recovered=len(made))
    return made


def _note(catalog: Path | None, directory: Path, file: Path, source: Path) -> None:
    """Tell the list that has begun *file* that it has its name."""
    stream, *below = file.relative_to(directory).parts
    if catalog is not None and below:
        name = "/".join(below)
        owner = Catalog.owner(catalog / stream, directory / stream, name)
        if owner is not None:
            owner.note(name, source)


def repair(part: Path) -> None:
    """Cut off what follows the last whole cluster, and make the file seekable.

    Raises ValueError or MediaError if it is no recording of ours, or no cluster of it is whole.
    """
    with part.open("r+b") as file:
        size = _end_of_clusters(file)
        demuxer, muxer = Demuxer(), None
        file.seek(0)
        while data := file.read(min(_READ, size - file.tell())):
            events = demuxer.feed(data)
            if muxer is None and (header := next((e for e in events if isinstance(e, Header)), None)):
                muxer = _muxer_of(header)
            if muxer is not None:
                muxer.recover(events)
        if muxer is None:
            raise ValueError("nothing of it is whole")
        file.truncate(size)
        for offset, data in muxer.finish(size):
            file.seek(offset)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _muxer_of(header: Header) -> Muxer:
    """One whose header is as long as *header*: with or without a date."""
    dated = Muxer(header.tracks, doc_type="matroska", seekable=True, date=0)
    if len(dated.header()) == header.size:
        return dated
    return Muxer(header.tracks, doc_type="matroska", seekable=True)


def _end_of_clusters(file: BinaryIO) -> int:
    """Where the last whole Cluster of *file* ends, found by their sizes; 0 if there is none.

    The daemon's clusters all say how long they are. After a power cut there may be anything behind them.
    """
    size, at, end = file.seek(0, os.SEEK_END), 0, 0
    while at < size:
        file.seek(at)
        head = file.read(MAX_HEAD)
        try:
            found = read_head(head, 0, len(head), at)
        except MediaError:
            break
        if found is None:
            break
        element, length, taken = found
        if length == UNKNOWN and element != ids.SEGMENT:
            break
        at += taken
        if element != ids.SEGMENT:
            at += length
        if element == ids.CLUSTER and at <= size:
            end = at
    return end
