"""Cut the captures in this directory from the full set: ``CAPTURES=DIR python tests/data/trim.py``.

A capture is cut behind a chunk, as a publisher that goes away leaves it. Where what matters comes
late, the beginning goes, too: the init segment, then the bytes from a keyframe's cluster on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Frame, Header, Kind, SegmentStart

HERE = Path(__file__).parent
CUTS = {  # file: (from ms, to ms) of the arrival times
    "cv-vp8-250.webm": (0, 4300),
    "cv-vp9-250.webm": (0, 4300),
    "cv-h264webm-100.mkv": (0, 4300),
    "cv-av1-250.webm": (0, 3000),
    "gum-audio-250.webm": (0, 5000),
    "gum-vp8-videoonly-250.webm": (0, 4300),
    "cv-vp8-pause.webm": (3500, 11500),
    "cv-vp8-freeze.webm": (3500, 13000),
    "gum-vp8-resize.webm": (3000, 7500),
    "gum-h264webm-resize.mkv": (3000, 7500),
    "cv-vp8-endvideo.webm": (0, 9999),
    "cv-vp8-restart.webm": (5200, 10800),
    "cv-h264webm-restart.mkv": (5200, 10800),
    "cv-mp4avc-250.mp4": (0, 4300),
    "cv-mp4avc-restart.mp4": (6100, 8500),
    "gum-mp4vp9-250.mp4": (0, 4300),
}


def cut(
    data: bytes, chunks: list[dict[str, Any]], start_ms: int, end_ms: int
) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the bytes and chunk list of what arrived from *start_ms* to *end_ms*."""
    chunks = [chunk for chunk in chunks if chunk["at_ms"] <= end_ms]
    data = data[: sum(chunk["bytes"] for chunk in chunks)]
    if not start_ms:
        return data, chunks
    seen = 0
    while chunks[0]["at_ms"] < start_ms:
        seen += chunks.pop(0)["bytes"]
    header, position = random_access_point(data, seen)
    while seen + chunks[0]["bytes"] <= position:
        seen += chunks.pop(0)["bytes"]
    first_ms = chunks[0]["at_ms"]
    chunks[0]["bytes"] += header - (position - seen)
    for chunk in chunks:
        chunk["at_ms"] = round(chunk["at_ms"] - first_ms, 1)
    return data[:header] + data[position:], chunks


def random_access_point(data: bytes, after: int) -> tuple[int, int]:
    """Return the size of the init segment, and where the first keyframe cluster behind *after* begins."""
    size = start = video = 0
    for event in SniffingDemuxer().feed(data):
        if isinstance(event, Header) and not size:
            size = event.size
            video = next(track.number for track in event.tracks if track.kind is Kind.VIDEO)
        elif isinstance(event, SegmentStart):
            start = event.offset
        elif isinstance(event, Frame) and event.keyframe and event.track == video and start >= after:
            return size, start
    raise ValueError("no keyframe behind that time")


def main() -> None:
    source = Path(os.environ["CAPTURES"])
    index = []
    for entry in json.loads((source / "index.json").read_text()):
        if entry["file"] not in CUTS:
            continue
        start_ms, end_ms = CUTS[entry["file"]]
        data, chunks = cut((source / entry["file"]).read_bytes(), entry["chunks"], start_ms, end_ms)
        (HERE / entry["file"]).write_bytes(data)
        index.append(
            entry | {"bytes": len(data), "cut_from_ms": start_ms, "cut_to_ms": end_ms, "chunks": chunks}
        )
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in index)
    (HERE / "index.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
