"""Notes: saved whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ingestd.live.notes import Notes


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    """A later note replaces the earlier one, and leaves nothing beside it."""
    notes = Notes(tmp_path / "a.json")
    assert notes.load() is None
    notes.save({"a": 1})
    notes.save({"b": [2]})
    assert notes.load() == {"b": [2]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01", '"x"'])
def test_what_cannot_be_read_is_no_note(tmp_path: Path, text: str) -> None:
    """After a power cut there may be anything."""
    (tmp_path / "a.json").write_text(text)
    assert Notes(tmp_path / "a.json").load() is None


def test_a_failed_save_leaves_the_old_note(tmp_path: Path) -> None:
    """On a full disk what was noted before stays."""
    notes = Notes(tmp_path / "a.json")
    notes.save({"a": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            notes.save({"a": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert notes.load() == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
