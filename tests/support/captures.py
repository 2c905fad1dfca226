"""The captures of Chromium's MediaRecorder: the trimmed ones in tests/data, or all in ``CAPTURES=DIR``."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen

DIRECTORY = Path(os.environ.get("CAPTURES") or Path(__file__).parents[1] / "data")


@frozen(slots=True)
class Chunk:
    """One message of a publisher: when it came, and which recorder it came from."""

    at_ms: float
    size: int
    recorder: int


@frozen(slots=True)
class Capture:
    """One recorded publisher."""

    name: str
    mime: str
    chunk_list: tuple[Chunk, ...]
    about: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file with all chunks back to back."""
        return DIRECTORY / self.name

    def data(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes()

    def chunks(self) -> list[bytes]:
        """The bytes as the browser sent them, one item a message."""
        data, pos, out = self.data(), 0, []
        for chunk in self.chunk_list:
            out.append(data[pos : pos + chunk.size])
            pos += chunk.size
        return out

    def times(self) -> list[float]:
        """When the chunks came, in seconds since the first."""
        first = self.chunk_list[0].at_ms
        return [(chunk.at_ms - first) / 1000 for chunk in self.chunk_list]

    def recorders(self) -> list[bytes]:
        """The bytes of each MediaRecorder, in order."""
        joined: dict[int, list[bytes]] = {}
        for chunk, data in zip(self.chunk_list, self.chunks(), strict=True):
            joined.setdefault(chunk.recorder, []).append(data)
        return [b"".join(parts) for parts in joined.values()]


@cache
def captures(*, webm_only: bool = True) -> tuple[Capture, ...]:
    """All captures; the MP4 ones only without *webm_only*."""
    found = []
    for entry in json.loads((DIRECTORY / "index.json").read_text()):
        if webm_only and entry["file"].endswith(".mp4"):
            continue
        chunk_list = tuple(Chunk(c["at_ms"], c["bytes"], c["recorder"]) for c in entry["chunks"])
        found.append(Capture(entry["file"], entry["chunk_mime"], chunk_list, entry))
    return tuple(found)


def capture(name: str) -> Capture:
    """The capture in file *name*; raises KeyError if the directory has none."""
    for found in captures(webm_only=False):
        if found.name == name:
            return found
    raise KeyError(name)
