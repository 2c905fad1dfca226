"""Fixtures of the tests of the live path."""

from __future__ import annotations

import pytest

from ingestd.live import batch


@pytest.fixture
def bare_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds in bytes count payloads alone, so that a test can do its sums in whole frames."""
    monkeypatch.setattr(batch, "FRAME_OVERHEAD", 0)
