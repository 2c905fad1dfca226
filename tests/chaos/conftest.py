"""The bench for short runs: the cards are made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chaos.card import Card, card
from chaos.outcome import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Runs of 12 s, in a folder of their own."""
    work: Path = tmp_path_factory.mktemp("chaos")
    return Bench(work, 12.0)


@pytest.fixture
def made(ffmpeg: str, bench: Bench) -> Card:
    """20 s of card."""
    return trio.run(card, ffmpeg, 20.0, 0, bench.work / "cards")
