"""Recordings that a dead daemon left as ``.part``: cut to what is whole, made seekable, given their names."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial
from pathlib import Path

import structlog
import trio

from ingestd.errors import IngestdError
from ingestd.live.catalog import Catalog
from ingestd.live.part import CONVERTING, PART, part_of, publish, repair
from ingestd.live.resume import all_notes

log = structlog.get_logger(__name__)


async def recover(
    directory: Path,
    ffmpeg: str,
    catalog: Path | None = None,
    *,
    except_for: Collection[Path] = (),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> list[Path]:
    """Finish the recordings under *directory* that a dead daemon left; returns the files made of them.

    *catalog* has a directory a stream, with the lists of what was begun. *except_for* are the parts that
    sessions go on with; see `claimed`. Started once it knows which: what is begun later is not touched. If
    cancelled, what is not yet finished is left to the next time.
    """
    parts, remains = await trio.to_thread.run_sync(_left, directory, frozenset(except_for))
    task_status.started()
    for path in remains:
        with contextlib.suppress(OSError):
            await trio.to_thread.run_sync(path.unlink)
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


def claimed(directory: Path, recordings: Path) -> set[Path]:
    """The parts below *recordings* that the session with the journal *directory* goes on with, or finishes.

    *recordings* is its stream's directory. They need not be there. Blocks.
    """
    return {part_of(recordings / name) for note in all_notes(directory) for name in note.unfinished}


def _left(directory: Path, kept: Collection[Path]) -> tuple[list[Path], list[Path]]:
    """The parts under *directory* without those *kept*, and what conversions left that have no part."""
    parts = [part for part in sorted(directory.rglob(f"*{PART}")) if part not in kept]
    conversions = directory.rglob(f".*{CONVERTING}")
    # `publish` sees to one whose part is there.
    return parts, [path for path in conversions if not part_of(_converted(path)).exists()]


def _converted(path: Path) -> Path:
    """The file that was to be made of the conversion *path*."""
    return path.with_name(path.name.removeprefix(".").removesuffix(CONVERTING))


def _note(catalog: Path | None, directory: Path, file: Path, source: Path) -> None:
    """Tell the list that has begun *file* that it has its name."""
    stream, *below = file.relative_to(directory).parts
    if catalog is not None and below:
        name = "/".join(below)
        owner = Catalog.owner(catalog / stream, directory / stream, name)
        if owner is not None:
            owner.note(name, source)
