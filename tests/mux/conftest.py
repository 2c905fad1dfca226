"""Fixtures of the tests of Mux."""

from __future__ import annotations

import pytest

from tests.support.processes import free_port


@pytest.fixture
def unused_port() -> int:
    """Nobody listens there."""
    return free_port()
