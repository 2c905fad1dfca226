"""The counting reads what real browsers recorded, in every codec and container of the trimmed captures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DATA
from tests.support import counting

NUMBERED = sorted(path.name for path in DATA.glob("cv-*.*") if "restart" not in path.name)


def test_there_are_captures() -> None:
    """An empty folder would make the test below pass for nothing."""
    assert len(NUMBERED) >= 5


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_of_a_capture_go_up(name: str, data: Path) -> None:
    """Every frame has a number, none goes back, times increase, sound and flash are together."""
    frames = counting.read_video(data / name)
    numbers = [number for _, number in frames]
    assert len(frames) > 50
    assert counting.NO_NUMBER not in numbers
    assert numbers == sorted(numbers)
    assert counting.continuous(frames)
    assert abs(counting.av_offset(data / name)) < 0.06
