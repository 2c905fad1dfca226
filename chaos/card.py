"""Numbered frames to publish: made once per length and seed, and kept."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from ingestd.testcard import test_card_chunks as card_chunks

SLICE = 0.3  # seconds between two chunks
WIDTH, HEIGHT = 320, 180


async def card(ffmpeg: str, seconds: float, seed: int, cache: Path) -> list[bytes]:
    """The chunks of *seconds* of test card, from *cache* if they are there; same *seed*, same frames."""
    kept = cache / f"card-{WIDTH}x{HEIGHT}-{seconds:g}s-{seed}"
    sizes = kept.with_suffix(".sizes")
    if sizes.exists():
        data = kept.read_bytes()
        chunks, at = [], 0
        for size in map(int, sizes.read_text().split()):
            chunks.append(data[at : at + size])
            at += size
        return chunks
    made = card_chunks(
        ffmpeg, seconds=seconds, width=WIDTH, height=HEIGHT, timeslice=SLICE, seed=seed, realtime=False
    )
    async with aclosing(made):
        chunks = [chunk async for chunk in made]
    _keep(kept, sizes, chunks)
    return chunks


def _keep(kept: Path, sizes: Path, chunks: list[bytes]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"".join(chunks))
    sizes.write_text(" ".join(str(len(chunk)) for chunk in chunks))  # last: it says that the rest is whole
