"""The example of docs/client.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.tools import environment
from tests.daemon.tools import RAW
from tests.support.captures import capture
from tests.support.daemon import daemon

GUIDE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")


def test_the_example_publishes_a_file(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / "publish_file.py").write_text(script)
    film = capture("cv-vp8-250.webm")
    with daemon(tmp_path, RAW) as running:
        url = f"ws://{running.ingest}/stream/live"
        done = subprocess.run(
            [sys.executable, "publish_file.py", str(film.path), url, "cam-key"], cwd=tmp_path,
            env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"complete {len(film.data())}\n"
