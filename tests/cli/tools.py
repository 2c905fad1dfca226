"""The command line as people run it: a subprocess, its output and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import define
from click.testing import CliRunner, Result

from ingestd.cli import main

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


@define
class Ingestd:
    """``ingestd`` in this process, which is faster: *url* and *token* are those of a daemon."""

    url: str
    token: str = ""

    def __call__(self, *args: str | Path, text: str = "", token: str | None = None) -> Result:
        """Run it with *args* and the daemon's URL, *text* on standard input."""
        shown = self.token if token is None else token
        env = {"COLUMNS": "100", "INGESTD_TOKEN": shown or None}
        return CliRunner().invoke(main, [*map(str, args), "--url", self.url], input=text, env=env)

    def good(self, *args: str | Path, text: str = "", token: str | None = None) -> str:
        """What it prints; it must succeed."""
        done = self(*args, text=text, token=token)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *args: str | Path, text: str = "") -> Any:
        """What it prints with ``--json``; it must succeed."""
        return json.loads(self.good(*args, "--json", text=text))

    def bad(self, *args: str | Path, status: int = 1, text: str = "", token: str | None = None) -> str:
        """What it says where it must fail with *status*; nothing but that, and no traceback."""
        done = self(*args, text=text, token=token)
        assert (done.exit_code, done.stdout) == (status, ""), done.output
        assert isinstance(done.exception, SystemExit)
        return done.stderr
