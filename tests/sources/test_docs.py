"""``docs/publishing.md`` lists what the receiver answers."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_status_code_and_event_is_documented() -> None:
    """Each that occurs in the sources stands in the page, the codes as rows of a table."""
    sources = "".join(path.read_text() for path in (ROOT / "ingestd" / "sources").glob("*.py"))
    page = (ROOT / "docs" / "publishing.md").read_text()
    rows = set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE))
    statuses = {str(HTTPStatus[name].value) for name in re.findall(r"HTTPStatus\.([A-Z_]+)", sources)}
    codes = set(re.findall(r"\b(?:1001|1002|1003|1007|1009|1011|44\d\d|4500)\b", sources))
    assert statuses | codes <= rows
    events = set(re.findall(r'"((?:publisher|upgrade|handshake|connection)_[a-z]+)"', sources))
    assert {event for event in events if f"`{event}`" not in page} == set()
