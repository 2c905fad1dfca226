"""The command line as people run it: a subprocess, its output and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT = 60


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would change the commands' defaults."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("INGESTD_")}, "COLUMNS": "100", **more}


def command(*args: str | Path) -> list[str]:
    """The argv of ``ingestd`` with *args*."""
    return [sys.executable, "-m", "ingestd", *map(str, args)]


def ingestd(*args: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``ingestd`` with *args* in *cwd* to its end."""
    return subprocess.run(
        command(*args), cwd=cwd, env=environment(**env), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
