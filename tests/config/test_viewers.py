"""``[viewers]``: what is taken at the edges of each key, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.tools import load_text, problems


@pytest.mark.parametrize(
    ("key", "edges", "beyond"),
    [
        ("max", ("0", "1", "100000"), ("-1", "100001")),
        ("max_per_stream", ("0", "1", "100000"), ("-1", "100001")),
        ("memory", ('"1MiB"', '"1GiB"'), ('"1023KiB"', '"1025MiB"', "0")),
        ("max_lag", ('"500ms"', '"10m"'), ('"499ms"', '"601s"', "0")),
        ("send_buffer", ('"16KiB"', '"16MiB"'), ('"15KiB"', '"17MiB"', "0")),
        ("patience", ('"100ms"', '"5m"'), ('"99ms"', '"301s"', "0")),
    ],
)
def test_each_key_has_its_edges(
    key: str, edges: tuple[str, ...], beyond: tuple[str, ...], tmp_path: Path
) -> None:
    for value in edges:
        load_text(tmp_path, f"[viewers]\n{key} = {value}")
    for value in beyond:
        (found,) = problems(tmp_path, f"[viewers]\n{key} = {value}")
        assert f"viewers.{key}: " in found
