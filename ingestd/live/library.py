"""The recordings as files: where one lies, and how it is removed. All calls block: use them in a thread."""

from __future__ import annotations

from pathlib import Path

from ingestd.live.catalog import Catalog
from ingestd.live.retention import place_of
from ingestd.registry.model import RecordingRow

#: By suffix: what players are told.
MEDIA_TYPES = {".mkv": "video/x-matroska", ".webm": "video/webm", ".mp4": "video/mp4"}


def path_of(state: Path, recording: RecordingRow) -> Path | None:
    """The file of *recording* under the state directory; None if it is gone, or no plain file there."""
    root = state / "recordings" / recording.stream
    path = root / recording.file
    try:
        inside = path.parent.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    return path if inside and path.is_file() and not path.is_symlink() else None


def remove(state: Path, recording: RecordingRow) -> bool:
    """Remove the file; True if it is gone now, False if it is no longer the one that was made.

    Raises OSError.
    """
    place = place_of(state, recording.stream, "", "")
    for path in sorted((state / "catalog" / recording.stream).glob("*.jsonl")):
        catalog = Catalog(path, place.recordings)
        for entry in catalog.finished():
            if entry.name == recording.file:
                return catalog.remove(entry)
    return path_of(state, recording) is None
