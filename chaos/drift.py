"""How far sound and picture of a recording move apart, from one minute to another."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.counting import offset_of, read_beeps, read_flashes
from tests.support.packages import program

_PIECE = 60.0
_BEEPS = 4  # with fewer, one frame that was dropped would be taken for drift


def drift(recording: Path, seconds: float) -> float | None:
    """Between the pieces of *recording*, which is *seconds* long; None if it is too short for two."""
    return spread(list(_offsets(recording, min(_PIECE, seconds / 2))))


def spread(offsets: Sequence[float]) -> float | None:
    """The greatest distance between two of *offsets*; None if there are no two."""
    return max(offsets) - min(offsets) if len(offsets) > 1 else None


def _offsets(recording: Path, piece: float) -> Iterator[float]:
    """By how much the sound is late in each *piece* seconds, as far as there are beeps."""
    # In pieces: the whole sound of half an hour, decoded, does not fit into memory.
    with tempfile.TemporaryDirectory(prefix="drift-") as directory:
        argv = [program("ffmpeg"), "-v", "error", "-nostdin", "-i", str(recording), "-map", "0", "-c", "copy"]
        argv += ["-f", "segment", "-segment_time", f"{piece:g}", f"{directory}/%05d.mkv"]
        subprocess.run(argv, capture_output=True, check=False)
        for path in sorted(Path(directory).iterdir()):
            beeps = read_beeps(path)
            if len(beeps) >= _BEEPS:
                yield offset_of(beeps, read_flashes(path))
