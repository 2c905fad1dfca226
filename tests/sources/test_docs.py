"""``docs/publishing.md`` and ``docs/viewing.md`` list what the receiver answers."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "ingestd" / "sources"
WATCHING = [SOURCES / "watching.py", ROOT / "ingestd" / "live" / "viewer.py"]


@pytest.mark.parametrize(
    ("name", "files", "nouns"),
    [
        (
            "publishing",
            sorted(set(SOURCES.glob("*.py")) - set(WATCHING)),
            "publisher|upgrade|handshake|connection",
        ),
        ("viewing", WATCHING, "viewer"),
    ],
)
def test_every_status_code_and_event_is_documented(name: str, files: list[Path], nouns: str) -> None:
    """Each that occurs in the sources stands in the page, the codes as rows of a table."""
    sources = "".join(path.read_text() for path in files)
    page = (ROOT / "docs" / f"{name}.md").read_text()
    rows = set(re.findall(r"^\| (\d+)(?: with [^|]+)? \|", page, re.MULTILINE))
    statuses = {str(HTTPStatus[name].value) for name in re.findall(r"HTTPStatus\.([A-Z_]+)", sources)}
    codes = set(re.findall(r"\b(?:1001|1002|1003|1007|1009|1011|1013|44\d\d|4500)\b", sources))
    assert statuses | codes <= rows
    events = set(re.findall(rf'"((?:{nouns})_[a-z]+)"', sources))
    assert {event for event in events if f"`{event}`" not in page} == set()
